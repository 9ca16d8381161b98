"""Masks of edits: where an image may change, in latents and in pixels.

Blending latents alone does not keep pixels, since the decoder mixes the whole image; so what a mask
keeps is put back into the result, with a soft edge inside the part that may change.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool
from PIL import Image, ImageFilter
from torch import Tensor

from deepgen.config.sizes import LATENT_SCALE

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


def kept_cells(mask: Image.Image, height: int, width: int) -> Bool[Tensor, "rows columns"]:
    """Which latents stay those of the original: all whose pixels and neighbours must not change.

    Args:
        mask: 255 where the image may change, of any size.
        height: Of the generated image in pixels.
        width: As ``height``.
    """
    rows, columns = height // LATENT_SCALE, width // LATENT_SCALE
    # By area, so that a cell with any changing pixel is above 0.
    values = np.asarray(mask.convert("F").resize((columns, rows), Image.Resampling.BOX))
    changing = torch.from_numpy(values > 0)[None].float()
    grown = torch.nn.functional.max_pool2d(changing, 3, stride=1, padding=1)[0]
    return grown == 0


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
