"""From the bytes of an image to model input: upright RGB at the size of its bucket."""

from __future__ import annotations

from deepgen.config.sizes import Size
from deepgen.images.io import decode_image
from deepgen.images.tensors import resize, to_pixels
from deepgen.types import Pixels


def decode_at(data: bytes, size: Size, *, name: str = "the image") -> Pixels:
    """Decode an image and resize all of it to (height, width): nothing is cropped.

    Aspect ratios change by what rounding to the size requires.

    Raises:
        ImageError: The bytes are not an image, or damaged.
    """
    height, width = size
    image = decode_image(data, name=name)
    if image.size != (width, height):
        image = resize(image, height, width)
    return to_pixels(image)
