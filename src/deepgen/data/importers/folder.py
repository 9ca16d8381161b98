"""A folder of images, each with its caption in a text or JSON file of the same name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deepgen.data.importers.source import (
    PROMPT_KEYS,
    BadRow,
    BadSampleError,
    RawSample,
    Source,
    SourceOptions,
    read_row,
)
from deepgen.data.importers.table import TableSource, read_annotation
from deepgen.errors import DataError

IMAGE_SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".ppm")
)

METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
"""A table in the folder that lists its images; if there is one, caption files are not read."""

TEXT_KEYS = frozenset((*PROMPT_KEYS, "prompts", "lang", "reasoning", "skills", "render_text"))
"""Keys read from a caption file. Its only image is its own; edits need a metadata table."""


def open_source(path: Path, options: SourceOptions) -> TableSource | FolderSource:
    """The images of a folder, by its metadata table or by the captions beside them.

    Raises:
        DataError: There is no such folder.
        ValueError: Images are said to be elsewhere.
    """
    if options.images is not None:
        raise ValueError("--images is for tables; the images of a folder are inside it")
    if not path.is_dir():
        raise DataError(f"there is no folder {path}; check the path")
    table = next((path / name for name in METADATA if (path / name).is_file()), None)
    if table is None:
        return FolderSource(path, options.caption_key)
    return TableSource(table, caption_key=options.caption_key)


class FolderSource(Source):
    """``x.jpg`` with ``x.txt`` or ``x.json``, in the folder and all folders below it.

    The id of a sample is the path of its image. A text file holds one prompt; a JSON file may hold
    several, with the same keys about texts as a row of a table.
    """

    def __init__(self, root: Path, caption_key: str | None = None) -> None:
        self.root = root
        self.caption_key = caption_key

    def rows(self) -> Iterator[RawSample | BadRow]:
        """One row per image file, in the order of their paths."""
        for path in _files(self.root):
            if path.suffix.lower() in IMAGE_SUFFIXES:
                yield self._read(path)

    def _read(self, path: Path) -> RawSample | BadRow:
        name = path.relative_to(self.root).as_posix()
        try:
            row = _texts(path, self.caption_key)
        except BadSampleError as error:
            return BadRow(native_id=name, reason=error.reason, message=str(error))
        known = {*TEXT_KEYS, self.caption_key}
        own = {key: value for key, value in row.items() if key in known}
        return read_row({**own, "image_path": name}, name, self.caption_key)


def _texts(path: Path, caption_key: str | None) -> dict[str, Any]:
    annotation, text = path.with_suffix(".json"), path.with_suffix(".txt")
    if annotation.is_file():
        return dict(read_annotation(annotation))
    try:
        return {caption_key or "txt": text.read_text(encoding="utf-8-sig").strip()}
    except FileNotFoundError:
        wanted = f"{text.name} or {annotation.name}"
        raise BadSampleError("empty_prompt", f"no caption; expected {wanted} beside it") from None
    except OSError as error:
        raise BadSampleError("io", f"{text.name} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise BadSampleError("row", f"{text.name} is not UTF-8") from None


def _files(folder: Path) -> Iterator[Path]:
    """All files below a folder except hidden ones, with the names of one folder in memory."""
    with os.scandir(folder) as entries:
        found = sorted((each for each in entries if each.name[0] != "."), key=lambda e: e.name)
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            yield from _files(Path(entry.path))
        elif entry.is_file():
            yield Path(entry.path)
