"""Image files: where they go, what is written into them, and that they appear only whole."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}

PNG_KEY = "deepgen"

EXIF_FOLDER = 0x8769
USER_COMMENT = 0x9286
# The standard's eight bytes that say how the comment is encoded.
ASCII_COMMENT = b"ASCII\0\0\0"

# At 95 no artefact shows at any zoom; above it JPEG files only grow.
JPEG_QUALITY = 95


def plan_outputs(output: Path, count: int, *, overwrite: bool) -> list[Path]:
    """One path per image, all known to be writable.

    Of several images the first is number 0; the number replaces ``{i}`` in the name, or is added
    to it.

    Raises:
        ValueError: A name cannot be used, its folder is missing or read-only, or it exists.
    """
    if output.suffix.lower() not in FORMATS:
        raise ValueError(f"--output {output} must end in one of {', '.join(FORMATS)}")
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


def write_image(
    image: Image.Image, path: Path, record: Mapping[str, Any], *, overwrite: bool
) -> None:
    """Write an image with a record of how it was made.

    The record is the PNG text chunk ``deepgen``, or the EXIF user comment of JPEG and WebP: JSON
    in ASCII, so equal images are equal files.

    Raises:
        ValueError: Someone else was faster with a file of this name.
    """
    text = json.dumps(dict(record))
    kind = FORMATS[path.suffix.lower()]
    options: dict[str, Any]
    if kind == "PNG":
        chunk = PngInfo()
        chunk.add_text(PNG_KEY, text)
        options = {"pnginfo": chunk}
    else:
        exif = Image.Exif()
        exif.get_ifd(EXIF_FOLDER)[USER_COMMENT] = ASCII_COMMENT + text.encode("ascii")
        quality = {"quality": JPEG_QUALITY} if kind == "JPEG" else {"lossless": True}
        options = {"exif": exif.tobytes(), **quality}
    with _appearing_whole(path, overwrite=overwrite) as part:
        image.save(part, format=kind, **options)


@contextmanager
def _appearing_whole(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """A file to fill, which then takes the final name in one step."""
    part = _part(path.parent)
    try:
        yield part
        if overwrite:
            part.replace(path)
        else:
            _rename_to_new(part, path)
    finally:
        part.unlink(missing_ok=True)


def _rename_to_new(part: Path, path: Path) -> None:
    """Rename, but never over another file: a hard link refuses where a rename would replace."""
    try:
        os.link(part, path)
    except OSError as error:
        # Some file systems have no hard links; there a file made this very moment is overlooked.
        if os.path.lexists(path):
            raise ValueError(f"{path} has come to exist; choose another --output") from error
        part.replace(path)


def _part(folder: Path) -> Path:
    return folder / f".deepgen-{uuid.uuid4().hex}.part"


def _check_writable(folder: Path) -> None:
    """Try it: permissions alone do not tell of read-only disks."""
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}; create it, or choose another --output")
    part = _part(folder)
    try:
        part.touch(exist_ok=False)
    except OSError as error:
        raise ValueError(
            f"nothing can be written to {folder} ({error.strerror}); choose another --output"
        ) from None
    part.unlink()
