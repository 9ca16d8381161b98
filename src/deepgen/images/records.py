"""What an image's file says of how it was made, as written by :mod:`deepgen.images.io`."""

from __future__ import annotations

from typing import Any

from PIL import Image

from deepgen.errors import ImageError
from deepgen.images.io import (
    ASCII_COMMENT,
    EXIF_FOLDER,
    PNG_KEY,
    USER_COMMENT,
    WRITE_FORMATS,
    open_image,
)
from deepgen.images.provenance import stated_source
from deepgen.images.signing import stated_manifest
from deepgen.reading import parse_json

MAX_RECORD_BYTES = 1 << 20

RECORDED = {*WRITE_FORMATS.values(), "MPO"}
"""Formats with a record; a JPEG that somebody added a second image to is an MPO."""


def stored_record(data: bytes) -> dict[str, Any]:
    """The record in an image file that one of our commands or servers made.

    Args:
        data: The file.

    Returns:
        Prompt, seed, size, steps, guidance and model; empty where there is none.
    """
    try:
        with open_image(data, formats=sorted(set(WRITE_FORMATS.values()))) as image:
            return _record_of(image)
    except ImageError:
        return {}


def statement(data: bytes, *, name: str = "the image") -> dict[str, Any]:
    """All that an image file says of itself.

    Args:
        data: The file.
        name: For messages.

    Returns:
        ``format``, ``width``, ``height``, ``record`` (see :func:`stored_record`; None without one),
        ``digital_source_type`` (the IPTC address; None without one) and ``c2pa`` (see
        :func:`deepgen.images.signing.stated_manifest`).

    Raises:
        ImageError: It is no image.
    """
    with open_image(data, name=name) as image:
        kind = image.format or ""
        return {
            "format": kind,
            "width": image.width,
            "height": image.height,
            "record": _record_of(image) or None,
            "digital_source_type": stated_source(image.info),
            "c2pa": stated_manifest(data, kind),
        }


def _record_of(image: Image.Image) -> dict[str, Any]:
    """The record in an opened file of a format that we write; empty where there is none."""
    try:
        if image.format == "PNG":
            text = image.info.get(PNG_KEY, "")
        elif image.format in RECORDED:
            comment = image.getexif().get_ifd(EXIF_FOLDER).get(USER_COMMENT, b"")
            text = bytes(comment).removeprefix(ASCII_COMMENT)
        else:
            return {}
        values = parse_json(text) if len(text) <= MAX_RECORD_BYTES else {}
    except Exception:
        # Whatever decoders and parsers raise: then there is no record of ours.
        return {}
    return values if isinstance(values, dict) else {}
