"""``--output``: where images go, checked before the first is made."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryFile

from deepgen.images.io import WRITE_FORMATS


def plan_outputs(output: Path, count: int, *, overwrite: bool) -> list[Path]:
    """One path per image, all known to be writable.

    Of several images the first is number 0; the number replaces ``{i}`` in the name, or is added
    to it.

    Raises:
        ValueError: A name cannot be used, its folder is missing or read-only, or it exists.
    """
    if output.suffix.lower() not in WRITE_FORMATS:
        raise ValueError(f"--output {output} must end in one of {', '.join(WRITE_FORMATS)}")
    if "{i}" in output.name:
        paths = [output.with_name(output.name.replace("{i}", str(i))) for i in range(count)]
    elif count > 1:
        paths = [output.with_name(f"{output.stem}-{i}{output.suffix}") for i in range(count)]
    else:
        paths = [output]
    for path in paths:
        if path.is_dir():
            raise ValueError(f"{path} is a folder, expected the name of an image file")
        if os.path.lexists(path) and not overwrite:
            raise ValueError(f"{path} exists; choose another --output or add --overwrite")
    _check_writable(output.parent)
    return paths


def _check_writable(folder: Path) -> None:
    """Refuse a folder that nothing can be written to, by trying: permissions miss read-only disks.

    Raises:
        ValueError: It is missing or cannot be written to.
    """
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}; create it, or choose another --output")
    try:
        TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(
            f"nothing can be written to {folder} ({error.strerror}); choose another --output"
        ) from None
