"""Reading the pictures that people have: any mode, any orientation, nothing that bites.

No torch in here, so that a bad picture is refused before anything slow is imported.
"""

from __future__ import annotations

import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from deepgen.errors import ImageError

MAX_PIXELS = 180_000_000
"""About twice what the largest cameras make; more is refused from the header alone."""

# Formats that people exchange. Others (PostScript among them, which starts a program) are not even
# tried.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "MPO", "PPM", "ICO")


def read_image(path: Path) -> Image.Image:
    """Read a picture file as upright RGB.

    Animations give their first frame, with a warning. Transparent parts become white, 16-bit
    pictures are scaled to 8, CMYK goes through its embedded profile.

    Raises:
        ImageError: There is no picture, it is damaged, or larger than ``MAX_PIXELS``.
    """
    if not path.exists():
        raise ImageError(f"no picture at {path}")
    if path.is_dir():
        raise ImageError(f"{path} is a folder, expected a picture file")
    try:
        if path.stat().st_size == 0:
            raise ImageError(f"{path} is empty, expected a picture")
        with warnings.catch_warnings():
            # Its threshold is lower than ours and only warns; ours refuses, below.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                return to_rgb(image, name=str(path))
    except UnidentifiedImageError:
        raise ImageError(
            f"{path} is no picture in a known format ({', '.join(FORMATS)}); convert it first"
        ) from None
    except Image.DecompressionBombError as error:
        raise ImageError(f"{path} is too large: {error}") from None
    except PermissionError:
        raise ImageError(f"{path} may not be read; check its permissions") from None


def to_rgb(image: Image.Image, *, name: str = "the picture") -> Image.Image:
    """Bring an open picture into upright RGB; see :func:`read_image`.

    Raises:
        ImageError: Too large, or its data are damaged.
    """
    if image.width * image.height > MAX_PIXELS:
        raise ImageError(
            f"{name} has {image.width} x {image.height} pixels, at most {MAX_PIXELS:,} are read; "
            "make it smaller first"
        )
    if getattr(image, "n_frames", 1) > 1:
        warnings.warn(f"{name} is animated; its first frame is used", stacklevel=3)
        image.seek(0)
    try:
        image.load()
        upright = ImageOps.exif_transpose(image)
        return _opaque(upright)
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ImageError(f"{name} is damaged ({error}); save it again or take another") from None


def _opaque(image: Image.Image) -> Image.Image:
    """RGB of any mode, over white where it is transparent."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _from_deep(image)
    if image.mode == "CMYK":
        return _from_cmyk(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def _from_deep(image: Image.Image) -> Image.Image:
    """16-bit grey as 8-bit: 65535 becomes 255. Pillow's own conversion would clip at 255."""
    values = np.asarray(image).astype(np.float64)
    levels = (values / 257).round() if values.max(initial=0) > 255 else values
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8)).convert("RGB")


def _from_cmyk(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if profile:
        try:
            converted = ImageCms.profileToProfile(
                image,
                ImageCms.ImageCmsProfile(BytesIO(profile)),
                ImageCms.createProfile("sRGB"),
                outputMode="RGB",
            )
            if converted is not None:
                return converted
        except (ImageCms.PyCMSError, OSError):
            warnings.warn("an unusable colour profile was ignored", stacklevel=4)
    return image.convert("RGB")
