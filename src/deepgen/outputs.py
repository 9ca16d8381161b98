"""What commands write, checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryFile

KINDS = {
    "dataset.json": "a data set",
    "model_index.json": "a model",
    "run.json": "an evaluation",
}
"""What a folder is, by the file that marks it."""


def check_output_folder(
    folder: Path, inputs: Mapping[str, Path | str | None], *, own: str, name: str = "--output"
) -> None:
    """Refuse a folder that a command cannot write into, or should not.

    Args:
        folder: It need not exist.
        inputs: Folders that the command reads, by their option; what is no folder is ignored.
        own: The file that marks what the command writes itself, see ``KINDS``; "" for none.
        name: What the command calls the folder.

    Raises:
        ValueError: It is a file or below one, read-only, an input, inside a data set or a model, or
            something else than what the command writes.
    """
    place = resolved(folder)
    for option, value in inputs.items():
        source = None if value is None else resolved(Path(value))
        if source is None or not source.is_dir():
            continue
        # Elsewhere, as below a folder of prompts, more files do no harm.
        is_whole = any((source / marker).is_file() for marker in KINDS)
        if place == source or (is_whole and place.is_relative_to(source)):
            where = "is the folder" if place == source else "is inside the folder"
            raise ValueError(
                f"{name} {folder} {where} of {option} {value}, which is only read; choose "
                f"another {name}"
            )
    for marker, kind in KINDS.items():
        if marker != own and (folder / marker).is_file():
            raise ValueError(f"{name} {folder} is {kind}; choose another {name}")
    check_writable(folder)


def check_output_file(path: Path) -> None:
    """Refuse a name under which no file can be written.

    Raises:
        ValueError: It is a folder, or below a file, or nothing can be written there.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder, expected the name of a file")
    check_writable(path.parent)


def check_writable(folder: Path) -> None:
    """Refuse a folder that nothing can be written to, by trying: permissions miss read-only disks.

    Raises:
        ValueError: It, or the folder that it would be made in, cannot be written to.
    """
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise ValueError(f"{place} is a file, not a folder; choose another output")
    try:
        TemporaryFile(dir=place).close()
    except OSError as error:
        raise ValueError(
            f"nothing can be written to {place} ({error.strerror}); choose another output"
        ) from None


def resolved(path: Path) -> Path:
    """An absolute path without links, ``~`` resolved too."""
    try:
        return path.expanduser().resolve()
    except RuntimeError:
        # An unknown home directory.
        return path.resolve()
