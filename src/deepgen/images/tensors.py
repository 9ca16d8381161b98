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
    """Decoded pixels as 8 bits: ``clamp(127.5 x + 128, 0, 255)``, truncated.

    In float32, whatever they were decoded in: in bfloat16 the same line is off by 0.4 levels.
    """
    levels = (127.5 * pixels.float() + 128).clamp(0, 255).to(torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).cpu().numpy())


def resize(image: Image.Image, height: int, width: int) -> Image.Image:
    """The whole image at another size, by Pillow's own default, as the model was trained.

    Bicubic, with its support widened for shrinking, so that nothing is skipped.
    """
    return image.resize((width, height), Image.Resampling.BICUBIC)
