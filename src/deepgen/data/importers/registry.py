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
}
"""Name of an importer, which is that of its module, and what it reads."""


def open_source(name: str, path: Path, options: SourceOptions) -> Source:
    """Open what is to be imported.

    Raises:
        DataError: There is no such importer, or nothing at the path that it reads.
        ValueError: An option does not apply to this importer.
    """
    if name not in IMPORTERS:
        raise DataError(f"there is no importer {name!r}; choose one of {', '.join(IMPORTERS)}")
    # Only the chosen one, so that --help stays fast however many there are.
    source: Source = import_module(f"deepgen.data.importers.{name}").open_source(path, options)
    return source
