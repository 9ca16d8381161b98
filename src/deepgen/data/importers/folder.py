"""A folder of images, each with its caption in a text or JSON file of the same name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from deepgen.data.importers.source import (
    PROMPT_KEYS,
    BadRow,
    BadSampleError,
    RawSample,
    Source,
    SourceOptions,
    named_images,
    read_row,
)
from deepgen.data.importers.table import TableSource, read_annotation
from deepgen.errors import DataError
from deepgen.images.formats import IMAGE_SUFFIXES, looks_like_image
from deepgen.reading import read_text

METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
"""A table in the folder that lists its images; if there is one, caption files are not read."""

TEXT_KEYS = frozenset((*PROMPT_KEYS, "prompts", "lang", "reasoning", "skills", "render_text"))
"""Keys read from a caption file. Its only image is its own; edits need a metadata table."""


TEXT_SUFFIXES = (".txt", ".json")

SHOWN_PATH = 100
"""Characters of a path in a message."""


def open_source(path: Path, options: SourceOptions) -> ListedFolder | FolderSource:
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
    if table is None or options.ignore_metadata:
        return FolderSource(path, options.caption_key, options.caption_suffix)
    if options.caption_suffix is not None:
        raise ValueError(
            f"--caption-suffix is for captions beside images, but {table} lists the images of this "
            "folder; add --ignore-metadata to read captions instead"
        )
    return ListedFolder(table, caption_key=options.caption_key)


class ListedFolder(TableSource):
    """A folder whose images a table in it lists."""

    def notes(self) -> list[str]:
        """How many images of the folder no row names."""
        named = {Path(name).as_posix() for row in self.raw_rows() for name in named_images(row)}
        files = (
            path.relative_to(self.root).as_posix()
            for path, _ in _files(self.root)
            if looks_like_image(path)
        )
        left = [name for name in files if name not in named]
        if not left:
            return []
        return [
            f"{self.path} names no row for {len(left)} images of its folder, the first {left[0]}: "
            "they were not imported; add rows for them, or import into a new folder with "
            "--ignore-metadata to read the captions beside the images"
        ]


class FolderSource(Source):
    """``x.jpg`` with ``x.txt``, ``x.jpg.txt`` or ``x.json``, in all folders below this one.

    The id of a sample is the path of its image. A text file holds one prompt; a JSON file may hold
    several, with the same keys about texts as a row of a table.

    Args:
        root: The folder.
        caption_key: Key of the text in JSON files.
        caption_suffix: Ending of the text files, instead of the usual ones.
    """

    def __init__(
        self, root: Path, caption_key: str | None = None, caption_suffix: str | None = None
    ) -> None:
        self.root = root
        self.caption_key = caption_key
        self.suffixes = TEXT_SUFFIXES if caption_suffix is None else (caption_suffix,)

    def rows(self) -> Iterator[RawSample | BadRow]:
        """One row per image file, in the order of their paths."""
        for path, neighbours in _files(self.root):
            if looks_like_image(path):
                yield self._read(path, neighbours)

    def _read(self, path: Path, neighbours: Mapping[str, Sequence[str]]) -> RawSample | BadRow:
        name = path.relative_to(self.root).as_posix()
        try:
            row = _texts(self._caption_of(path, neighbours), self.caption_key)
        except BadSampleError as error:
            return BadRow(native_id=name, reason=error.reason, message=str(error))
        known = {*TEXT_KEYS, self.caption_key}
        own = {key: value for key, value in row.items() if key in known}
        return read_row({**own, "image_path": name}, name, self.caption_key)

    def _caption_of(self, path: Path, neighbours: Mapping[str, Sequence[str]]) -> Path:
        """The file with an image's texts: a JSON file before a text.

        Raises:
            BadSampleError: There is none; names a file that might be it.
        """
        near = neighbours[path.stem.split(".")[0]]
        for suffix in reversed(self.suffixes):
            for start in (path.stem, path.name):
                wanted = start + suffix
                # Suffixes in any case: cameras and old tools write .TXT.
                for each in near:
                    if each.startswith(start) and each.lower() == wanted.lower():
                        return path.with_name(each)
        wanted = " or ".join(f"{path.stem}{suffix}" for suffix in self.suffixes)
        message = f"no caption; expected {wanted} beside it"
        others = [
            each.removeprefix(path.stem)
            for each in near
            if each.startswith(f"{path.stem}.") and Path(each).suffix.lower() not in IMAGE_SUFFIXES
        ]
        if others:
            message += f"; {path.stem}{others[0]} would be read with --caption-suffix {others[0]}"
        raise BadSampleError("empty_prompt", message)


def _texts(path: Path, caption_key: str | None) -> dict[str, Any]:
    if path.suffix.lower() == ".json":
        return dict(read_annotation(path))
    try:
        return {caption_key or "txt": read_text(path).strip()}
    except OSError as error:
        raise BadSampleError("io", f"{path.name} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise BadSampleError("row", f"{path.name} is not UTF-8") from None


def _files(folder: Path) -> Iterator[tuple[Path, Mapping[str, Sequence[str]]]]:
    """All files below a folder except hidden ones, with the names of one folder in memory.

    With each come the names of the files beside it, by their part before the first dot.
    """
    # A stack instead of recursion: folders may be nested deeper than Python calls functions.
    remaining = [_entries(folder)]
    while remaining:
        for entry, beside in remaining[-1]:
            if entry.is_dir(follow_symlinks=False):
                remaining.append(_entries(entry.path))
                break
            if _is_file(entry):
                yield Path(entry.path), beside
        else:
            remaining.pop()


def _entries(folder: Path | str) -> Iterator[tuple[os.DirEntry[str], Mapping[str, Sequence[str]]]]:
    """Entries of one folder, each with the names of all by their part before the first dot."""
    try:
        with os.scandir(folder) as entries:
            found = sorted((each for each in entries if each.name[0] != "."), key=lambda e: e.name)
    except OSError as error:
        # The beginning of a path that is too long for the system fills a screen.
        shown = str(folder) if len(str(folder)) <= SHOWN_PATH else f"{str(folder)[:SHOWN_PATH]}..."
        raise DataError(f"{shown} cannot be listed ({error.strerror}); import without it") from None
    beside: dict[str, list[str]] = {}
    for entry in found:
        beside.setdefault(entry.name.split(".")[0], []).append(entry.name)
    for entry in found:
        yield entry, beside


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a file, or is named like an image, so that it must be reported.

    Links to themselves or to nothing, pipes and devices cannot be read, which the quarantine says.
    """
    try:
        if entry.is_file():
            return True
        is_folder = entry.is_dir()
    except OSError:
        is_folder = False
    return not is_folder and Path(entry.name).suffix.lower() in IMAGE_SUFFIXES
