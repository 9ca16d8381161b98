"""GGUF files to model folders; what they lack comes from bases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from deepgen.checkpoint.bases import Bases, copy_files
from deepgen.checkpoint.conversion import copy_rest
from deepgen.checkpoint.files import CONFIG_NAMES, WEIGHT_STEMS, read_json, stored_weights
from deepgen.checkpoint.folder import load_on_meta
from deepgen.checkpoint.gguf.headers import find_gguf
from deepgen.checkpoint.gguf.reading import GGUFTensor, gguf_tensors
from deepgen.checkpoint.headers import StoredTensor
from deepgen.checkpoint.pickles import CONVERTED_SHARD_BYTES
from deepgen.checkpoint.weights import TensorReader
from deepgen.checkpoint.writing import atomic_folder, write_json, write_shards
from deepgen.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class FromGGUF:
    """What a conversion did."""

    tensors: Mapping[str, int]
    """Number of tensors that came from GGUF files, by component."""
    taken: Mapping[str, Path]
    """Where the rest came from, by component."""


def gguf_to_folder(
    source: Path, target: Path, *, bases: Sequence[Path], overwrite: bool = False
) -> FromGGUF:
    """Make a model folder of GGUF files and a model that has what they lack.

    Numbers keep their type; blocks become float16.

    Args:
        source: A GGUF file, or a folder of them.
        target: The folder; it appears complete or not at all.
        bases: Where everything else is, searched in order.
        overwrite: Replace an existing model folder.

    Raises:
        CheckpointError: A file is unusable, something is missing, or does not fit.
    """
    files = find_gguf(source)
    found = Bases(bases)
    try:
        origins = {component: found.require(component) for component in WEIGHT_STEMS}
    except CheckpointError as cause:
        raise CheckpointError(
            f"{source} has weights only, as all GGUF files; sizes and other parts are a model's: "
            f"{cause}"
        ) from None

    def stored(component: str) -> dict[str, StoredTensor]:
        return stored_weights(origins[component], WEIGHT_STEMS[component])

    def config(component: str) -> dict[str, Any]:
        return read_json(origins[component] / CONFIG_NAMES[component], f"{component}/config.json")

    components = gguf_tensors(files, stored, config)
    with atomic_folder(target, overwrite=overwrite) as folder:
        for component, place in origins.items():
            if component not in components:
                copy_files(place, folder / component, component)
                continue
            tensors = components[component]
            (folder / component).mkdir()
            write_json(folder / component / "config.json", config(component))
            write_shards(
                folder / component,
                component,
                {name: each.bytes for name, each in tensors.items()},
                partial(_read, TensorReader(), tensors),
                shard_bytes=CONVERTED_SHARD_BYTES,
            )
        names = ", ".join(each.name for each in files)
        made = dict.fromkeys(components, f"converted from {names}")
        taken = copy_rest(found, folder, origins, made)
        load_on_meta(folder, name=target)
    return FromGGUF(
        {
            component: sum(isinstance(each, GGUFTensor) for each in tensors.values())
            for component, tensors in components.items()
        },
        {name: each for name, each in taken.items() if name not in components},
    )


def _read(read: TensorReader, tensors: Mapping[str, StoredTensor], name: str) -> Tensor:
    return read(tensors[name])
