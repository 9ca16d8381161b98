"""PIL images and tensors in [-1, 1], both ways."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from deepgen.types import Pixels


def to_pixels(image: Image.Image) -> Pixels:
    """An RGB image as ``2 * (x / 255) - 1``, channels first, float32."""
    array = np.array(image, dtype=np.uint8)
    return 2 * (torch.from_numpy(array).permute(2, 0, 1).float() / 255) - 1


def to_image(pixels: Float[Tensor, "3 _height _width"]) -> Image.Image:
    """Pixels around [-1, 1] as an 8-bit RGB image: ``clamp(127.5 x + 128, 0, 255)``, truncated.

    Always in float32: in bfloat16 the result is 0.4 levels too bright on average.
    """
    levels = (127.5 * pixels.float() + 128).clamp(0, 255).to(torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).cpu().numpy())


def resize(image: Image.Image, height: int, width: int) -> Image.Image:
    """The whole image at another size, by Pillow's bicubic filter, as the model was trained.

    When shrinking, the filter's support is widened (antialiasing).
    """
    return image.resize((width, height), Image.Resampling.BICUBIC)
