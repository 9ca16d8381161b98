"""Images of any mode and colour space as 8-bit sRGB over white."""

from __future__ import annotations

import warnings
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from deepgen.images.memory import STRIP_PIXELS

PROFILE = "icc_profile"
TRANSPARENCY = "transparency"
ALPHA_MODES = ("RGBA", "LA", "PA", "La", "RGBa")
WHITE = (255, 255, 255, 255)

COLOR_SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK", "LAB": "LAB"}
"""Colour space, as profiles name it, of the modes that a profile is applied in."""

SAME_LEVELS = 2
"""Profiles that change no sample by more are sRGB, as most are: LittleCMS rounds twice."""


def to_srgb(image: Image.Image, *, name: str) -> Image.Image:
    """An upright image as RGB: colours by its embedded profile, transparent parts white.

    A profile that cannot be used is ignored, with a warning. 16-bit grey is scaled to 8 bits. Large
    images are converted in strips, which gives the same and takes less memory; except mode ``I``,
    whose depth shows in the whole image only.
    """
    rows = STRIP_PIXELS // image.width
    if rows >= image.height or image.mode == "I":
        return _converted(image, name=name)
    whole = Image.new("RGB", image.size)
    for top in range(0, image.height, max(rows, 1)):
        strip = image.crop((0, top, image.width, min(top + max(rows, 1), image.height)))
        converted = _converted(strip, name=name)
        whole.paste(converted, (0, top))
        whole.info = converted.info
    return whole


def _converted(image: Image.Image, *, name: str) -> Image.Image:
    profile = image.info.get(PROFILE)
    image, alpha = _split(image)
    converted = _by_profile(image, profile, name) if profile else None
    rgb = image.convert("RGB") if converted is None else converted
    if alpha is not None:
        layer = rgb.convert("RGBA")
        layer.putalpha(alpha)
        rgb = Image.alpha_composite(Image.new("RGBA", layer.size, WHITE), layer).convert("RGB")
    for key in (PROFILE, TRANSPARENCY):
        rgb.info.pop(key, None)
    return rgb


def _split(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Colours in one of ``COLOR_SPACES``, and the alpha channel where there is one."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _from_16_bit(image)
    if image.mode == "LA":
        return image.getchannel("L"), image.getchannel("A")
    if image.mode in ALPHA_MODES or TRANSPARENCY in image.info:
        grey = image.mode in ("1", "L")
        layer = image.convert("RGBA")
        return layer.convert("L" if grey else "RGB"), layer.getchannel("A")
    if image.mode in COLOR_SPACES:
        return image, None
    return image.convert("L" if image.mode == "1" else "RGB"), None


def _from_16_bit(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """16-bit grey as 8-bit: 65535 becomes 255. Pillow's own conversion would clip at 255.

    Mode ``I`` does not have a depth; where no value exceeds 255 it is assumed to be 8 bits.
    """
    values = np.asarray(image)
    levels = values.astype(np.uint16) if values.dtype != np.int32 else values.clip(0, 65535)
    hidden = image.info.get(TRANSPARENCY)
    alpha = None
    if isinstance(hidden, int):
        alpha = Image.fromarray(np.where(values == hidden, 0, 255).astype(np.uint8))
    if image.mode != "I" or values.max() > 255:
        # In integers: a large scan in floating point takes gigabytes.
        levels = levels // 257 + (levels % 257 > 128)
    return Image.fromarray(levels.astype(np.uint8)), alpha


def _by_profile(image: Image.Image, data: bytes, name: str) -> Image.Image | None:
    """Colours in sRGB by a profile; None where it is sRGB itself, or cannot be used."""
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(data))
        space = profile.profile.xcolor_space.strip()
        if space != COLOR_SPACES[image.mode]:
            warnings.warn(
                f"{name}: its colour profile is for {space}, not for {image.mode}, and is ignored",
                stacklevel=4,
            )
            return None
        if image.mode == "RGB" and _is_srgb(profile):
            return None
        return _transformed(image, profile)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, AttributeError):
        warnings.warn(f"{name}: its unusable colour profile is ignored", stacklevel=4)
        return None


def _transformed(image: Image.Image, profile: Any) -> Image.Image:
    converted = ImageCms.profileToProfile(
        image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    if converted is None:
        raise ValueError("the profile gives no image")
    return converted


def _is_srgb(profile: Any) -> bool:
    """Whether a profile changes hardly any of 343 colours, so that pixels can stay as they are."""
    levels = np.linspace(0, 255, 7).astype(np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3)
    found = np.asarray(_transformed(Image.fromarray(grid), profile))
    return bool(np.abs(found.astype(int) - grid).max() <= SAME_LEVELS)
