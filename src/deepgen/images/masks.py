"""Masks of edits: where an image may change.

Blending latents alone does not keep pixels, since the decoder mixes the whole image; so what a mask
keeps is put back into the result, with a soft edge inside the part that may change.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

FEATHER = 8
"""Pixels over which the result fades in, from the edge of the mask inwards."""


def mask_from_alpha(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The mask that an image's transparency is: 255 where it is fully transparent, else 0.

    Args:
        image: With an alpha channel.
        size: (width, height) of the image that is edited.

    Raises:
        ValueError: There is no alpha channel or nothing transparent, or the size is another one.
    """
    if image.size != size:
        found, expected = (f"{width} x {height}" for width, height in (image.size, size))
        raise ValueError(f"the mask is {found}, expected {expected}, the size of the first image")
    if "A" not in image.getbands() and "transparency" not in image.info:
        raise ValueError("the mask has no alpha channel; transparent is where the image may change")
    alpha = image.convert("RGBA").getchannel("A")
    mask = alpha.point([255] + [0] * 255)
    if mask.getbbox() is None:
        raise ValueError("no pixel of the mask is transparent, so nothing may change")
    return mask


def composite(result: Image.Image, original: Image.Image, mask: Image.Image) -> Image.Image:
    """The result where the mask allows it, and the original, to the bit, elsewhere.

    Args:
        result: Of the original's size.
        original: RGB.
        mask: 255 where the image may change.
    """
    inner, opacity = mask, np.zeros((mask.height, mask.width), np.float32)
    for _ in range(FEATHER):
        opacity += np.asarray(inner, np.float32) / (255 * FEATHER)
        inner = inner.filter(ImageFilter.MinFilter(3))
    before, after = np.asarray(original, np.float32), np.asarray(result, np.float32)
    mixed = before + (after - before) * opacity[..., None]
    return Image.fromarray(mixed.round().astype(np.uint8))
