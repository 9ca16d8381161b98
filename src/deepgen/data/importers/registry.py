"""Importers by name. To add one: a module here that has ``open_source``, and its line below."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from deepgen.errors import DataError

if TYPE_CHECKING:
    from deepgen.data.importers.source import Source, SourceOptions

IMPORTERS: Mapping[str, str] = {
    "folder": "x.jpg with x.txt, x.jpg.txt or x.json, or a metadata.jsonl that names them",
    "table": "JSON Lines, a JSON array, CSV or Parquet whose paths are relative to its own folder",
    "webdataset": "tars of images with texts or JSON of the same key",
    "exported": "what deepgen data export wrote, taken back with all fields",
    "text_to_image_2m": "jackyhate/text-to-image-2M",
    "laion_aesthetic": "wusize/laion6m_recap, downloaded with img2dataset",
    "megalith": "Megalith-10M, images and captions joined (unverified)",
    "redcaps": "wusize/redcaps5m_resized",
    "cc12m": "CC-12M, recaptioned or original (unverified)",
    "blip3o_60k": "BLIP3o/BLIP3o-60k (unverified)",
    "sharegpt4o_image": "FreedomIntelligence/ShareGPT-4o-Image, both parts (unverified)",
    "echo4o_image": "Yejy53/Echo-4o-Image (unverified)",
    "opengpt4o_image": "WINDop/OpenGPT-4o-Image, both parts",
    "nhr_edit": "iitolstykh/NHR-Edit and its part 2 (unverified)",
    "gpt_image_edit": "UCSC-VLAA/GPT-Image-Edit-1.5M",
    "nano_consistent": "Yejy53/Nano-consistent-150k (unverified)",
    "pico_banana": "apple/pico-banana-400k, single edits and turns",
    "x2i2": "OmniGen2/X2I2 (unverified)",
    "uniworld": "LanguageBind/UniWorld-V1, the edits",
    "unireason": "Alex11556666/Reason_Tuning, generation and editing (unverified)",
}
"""Name of an importer, which is that of its module, and what it reads."""


MAPPABLE = ("table", "webdataset")
"""Importers of sources whose fields the user may name."""


def open_source(name: str, path: Path, options: SourceOptions) -> Source:
    """Open what is to be imported.

    Raises:
        DataError: There is no such importer, or nothing at the path that it reads.
        ValueError: An option does not apply to this importer.
    """
    if name not in IMPORTERS:
        raise DataError(f"there is no importer {name!r}; choose one of {', '.join(IMPORTERS)}")
    # Only the chosen one, so that --help stays fast however many there are.
    module = import_module(f"deepgen.data.importers.{name}")
    has_parts = hasattr(module, "LAYOUT")
    if not has_parts and (options.part is not None or options.strip_prefix is not None):
        raise ValueError(f"--part and --strip-prefix are for published data sets, not for {name}")
    if options.mapping and name not in MAPPABLE:
        raise ValueError(f"--map is for {' and '.join(MAPPABLE)}; what {name} reads is known")
    source: Source = module.open_source(path, options)
    return source
