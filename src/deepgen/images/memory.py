"""How much memory decoding an image takes, and one limit on it for all threads of the process.

A file of 22 kB can state 180 million pixels, so sizes are judged by the header, before anything is
decoded. The limit is a property of the machine and not of a run, hence an environment variable:
``DEEPGEN_IMAGE_MIB``.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from PIL import Image

VARIABLE = "DEEPGEN_IMAGE_MIB"
DEFAULT_MIB = 512
"""67 million pixels of a PNG without transparency, a camera's whole JPEG of 67, or of any more at a
reduced scale."""

RGB_BYTES = 4
"""Pillow pads RGB to four bytes a pixel."""

SOURCE_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}
"""Bytes a pixel of Pillow's other modes; all that are not listed take four."""

DECODER_BYTES = {"WEBP": 16, "AVIF": 16, "HEIF": 16, "GIF": 8, "TIFF": 8, "ICO": 8}
"""Bytes a pixel that decoders of some formats take beside the image."""

PROGRESSIVE_BYTES = 6
"""Coefficients that a decoder of progressive JPEG keeps of a pixel."""

INTEGER_BYTES = 24
"""Of 32-bit grey, which is scaled to 8 bits as a whole."""

STRIP_PIXELS = 1 << 20
STRIP_BYTES = 32
"""Larger images are converted to sRGB in strips of so many pixels, each of which takes so much."""

SCALES = (1, 2, 4, 8)
"""By which JPEG can be reduced while it is decoded."""


class DecodeBudget:
    """Memory that all threads together may decode images in; who asks too early waits.

    Args:
        total: Bytes.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._used = 0
        self._changed = threading.Condition()

    @contextmanager
    def reserve(self, needed: int) -> Iterator[None]:
        """Hold ``needed`` bytes, at most the total, during the block."""
        with self._changed:
            self._changed.wait_for(lambda: self._used + needed <= self.total)
            self._used += needed
        try:
            yield
        finally:
            with self._changed:
                self._used -= needed
                self._changed.notify_all()


@cache
def decode_budget() -> DecodeBudget:
    """The budget of this process.

    Raises:
        ValueError: The environment variable is no positive number.
    """
    stated = os.environ.get(VARIABLE, str(DEFAULT_MIB))
    if not stated.isascii() or not stated.isdecimal() or not 0 < int(stated) < 1 << 20:
        raise ValueError(f"{VARIABLE} must be a number of MiB from 1 to 1048575, got {stated!r}")
    return DecodeBudget(int(stated) << 20)


def needed_bytes(image: Image.Image, *, is_rotated: bool, scale: int = 1) -> int:
    """An upper bound on the memory that an image takes until it is upright RGB.

    Args:
        image: Not decoded yet.
        is_rotated: Whether it is turned upright, which takes one more copy.
        scale: By which each side is divided while decoding; one of ``SCALES``.
    """
    whole = image.width * image.height
    pixels = whole // scale**2
    source = SOURCE_BYTES.get(image.mode, 4)
    fixed = DECODER_BYTES.get(str(image.format), 0)
    if image.info.get("progressive"):
        fixed += PROGRESSIVE_BYTES
    each = source + RGB_BYTES + source * is_rotated + INTEGER_BYTES * (image.mode == "I")
    return whole * fixed + pixels * each + min(pixels, STRIP_PIXELS) * STRIP_BYTES
