"""Large results in parts small enough to bring back, and whole again: ``split`` and ``join``.

A machine that is there for minutes often gives back a few files of limited size only. ``split
SOURCE FOLDER`` writes a file, or a folder as one archive, as parts with checksums; ``join FOLDER
TARGET`` checks them and puts the file or folder back. Needs only the standard library.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from zipfile import ZIP_DEFLATED, BadZipFile, ZipFile

MIB = 2**20

PART_BYTES = 15 * MIB

TOTAL_BYTES = 60 * MIB

LIST = "parts.json"
"""Sizes and checksums, written last: without it a folder has no complete set of parts."""


def split(
    source: Path, folder: Path, part_bytes: int = PART_BYTES, depth: int | None = None
) -> list[Path]:
    """Write the parts of a file or folder, and their list; they replace an earlier set.

    Args:
        source: A file or folder.
        folder: Of the parts.
        part_bytes: Of the largest part.
        depth: Leave out what lies deeper in the source; 1 takes only the files in it.

    Raises:
        ValueError: There is no such source, the folder holds something else, or the source is too
            large.
    """
    if not source.exists():
        raise ValueError(f"there is no {source}")
    if folder.exists() and not (folder.is_dir() and all(map(_is_own, folder.iterdir()))):
        raise ValueError(f"{folder} holds other things than parts; name another folder")
    with tempfile.TemporaryDirectory() as temporary:
        whole = source
        if source.is_dir():
            whole = Path(temporary) / "folder.zip"
            _archive(source, whole, depth)
        size = whole.stat().st_size
        if size > TOTAL_BYTES:
            raise ValueError(
                f"{source} takes {size / MIB:.1f} MiB, more than {TOTAL_BYTES // MIB}; "
                "split what you need of it"
            )
        folder.mkdir(parents=True, exist_ok=True)
        (folder / LIST).unlink(missing_ok=True)
        for old in folder.iterdir():
            old.unlink()
        paths = []
        for number, part in enumerate(_chunks(whole, part_bytes), start=1):
            paths.append(folder / f"part-{number}")
            paths[-1].write_bytes(part)
        content = {
            "name": source.resolve().name,
            "is_folder": source.is_dir(),
            "sha256": sha256(whole),
            "parts": {path.name: sha256(path) for path in paths},
        }
    (folder / LIST).write_text(json.dumps(content, indent=1) + "\n")
    return [*paths, folder / LIST]


def join(folder: Path, target: Path) -> None:
    """Put the file or folder back that ``split`` has taken apart, or write nothing.

    Raises:
        ValueError: Parts are missing or damaged, or the target exists.
    """
    try:
        content = json.loads((folder / LIST).read_text())
        parts, is_folder = dict(content["parts"]), bool(content["is_folder"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder} has no readable {LIST}; bring all parts back again") from error
    if target.exists():
        raise ValueError(f"{target} exists; name another target")
    for name, expected in parts.items():
        path = folder / Path(name).name
        if not path.is_file() or sha256(path) != expected:
            raise ValueError(f"{path} is missing or damaged; bring it back again")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".join-") as temporary:
        whole = Path(temporary) / "whole"
        with whole.open("wb") as file:
            for name in parts:
                file.write((folder / Path(name).name).read_bytes())
        if sha256(whole) != content["sha256"]:
            raise ValueError(f"the parts in {folder} do not make the whole; split again")
        if is_folder:
            unpacked = Path(temporary) / "folder"
            with ZipFile(whole) as archive:
                archive.extractall(unpacked)
            unpacked.rename(target)
        else:
            whole.rename(target)


def sha256(path: Path) -> str:
    """The checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def split_results(out: Path, folder: Path) -> list[Path]:
    """Write the parts of what plans left, without folders of their own.

    Those hold whole runs of a training, too large to bring back; what is needed to continue one
    lies beside them.

    Raises:
        ValueError: As by :func:`split`.
    """
    return split(out, folder, depth=2)


def main_split(arguments: Sequence[str]) -> int:
    """``split SOURCE FOLDER``."""
    parser = argparse.ArgumentParser(prog="split", description=split.__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args(arguments)
    return _command(lambda: print(*split(options.source, options.folder), sep="\n"))


def main_join(arguments: Sequence[str]) -> int:
    """``join FOLDER TARGET``."""
    parser = argparse.ArgumentParser(prog="join", description=join.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("target", type=Path)
    options = parser.parse_args(arguments)
    return _command(lambda: join(options.folder, options.target))


def _command(run: Callable[[], None]) -> int:
    try:
        run()
    except (ValueError, OSError, BadZipFile) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _is_own(path: Path) -> bool:
    return path.is_file() and (path.name == LIST or path.name.startswith("part-"))


def _archive(folder: Path, target: Path, depth: int | None) -> None:
    with ZipFile(target, "w", ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder)
            if depth is None or (len(name.parts) <= depth and path.is_file()):
                archive.write(path, name)


def _chunks(path: Path, size: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        while part := file.read(size):
            yield part
