"""What an image's file says of how it was made, as written by :mod:`deepgen.images.io`."""

from __future__ import annotations

from typing import Any

from deepgen.images.io import (
    ASCII_COMMENT,
    EXIF_FOLDER,
    PNG_KEY,
    USER_COMMENT,
    WRITE_FORMATS,
    open_image,
)
from deepgen.reading import parse_json

MAX_RECORD_BYTES = 1 << 20


def stored_record(data: bytes) -> dict[str, Any]:
    """The record in an image file that one of our commands or servers made.

    Args:
        data: The file.

    Returns:
        Prompt, seed, size, steps, guidance and model; empty where there is none.
    """
    try:
        with open_image(data, formats=sorted(set(WRITE_FORMATS.values()))) as image:
            if image.format == "PNG":
                text = image.info.get(PNG_KEY, "")
            else:
                comment = image.getexif().get_ifd(EXIF_FOLDER).get(USER_COMMENT, b"")
                text = bytes(comment).removeprefix(ASCII_COMMENT)
        if len(text) > MAX_RECORD_BYTES:
            return {}
        values = parse_json(text)
    except Exception:
        # Whatever decoders and parsers raise: then there is no record of ours.
        return {}
    return values if isinstance(values, dict) else {}
