"""Images that clients send: three formats, judged by their first bytes and headers."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence

from PIL import Image

from deepgen.errors import ImageError
from deepgen.images.io import decode_image, open_image
from deepgen.images.masks import mask_from_alpha
from deepgen.serve.errors import ApiError

MAX_BYTES = 20 << 20
MAX_PIXELS = 25_000_000

COPIES = 3
"""Of an image's pixels in this process: decoded, as bytes, and on their way to the engine."""

STARTS = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG", b"RIFF": "WEBP"}
"""First bytes of the formats."""

DATA_URL = re.compile(r"data:image/[a-z+.-]{1,20};base64,", re.ASCII)


def read_upload(data: bytes, name: str) -> Image.Image:
    """An image that was sent, as upright RGB.

    Args:
        data: The file, which :func:`decoded_bytes` has accepted.
        name: Of the field, for messages.

    Raises:
        ApiError: It is damaged, or too large.
    """
    try:
        return decode_image(data, name=name)
    except ImageError as error:
        raise _refusal(error, name) from None


def read_mask(data: bytes, first: Image.Image) -> Image.Image:
    """A mask that was sent: 255 where it is transparent.

    Raises:
        ApiError: It is no PNG with alpha of the first image's size, or nothing is transparent.
    """
    decoded_bytes(data, "mask")
    if _check(data, "mask") != "PNG":
        message = "the mask must be a PNG, transparent where the image may change"
        raise ApiError("unsupported_image_format", message, param="mask")
    try:
        with open_image(data, name="mask", formats=["PNG"]) as image:
            image.load()
            opened = image.copy()
    except ImageError as error:
        raise _refusal(error, "mask") from None
    try:
        return mask_from_alpha(opened, first.size)
    except ValueError as error:
        raise ApiError("invalid_value", str(error), param="mask") from None


def from_data_url(url: str | None, file_id: str | None, *, name: str) -> bytes:
    """The bytes of an image in a JSON request.

    Raises:
        ApiError: It is not a data URL.
    """
    if file_id is not None or url is None:
        message = f"{name}: files are not stored here; send the image as a data: URL"
        raise ApiError("unsupported_value", message, param=name)
    match = DATA_URL.match(url)
    if match is None:
        message = f"{name}: images are not fetched; send the file, or a data: URL with base64"
        raise ApiError("unsupported_value", message, param=name)
    try:
        return base64.b64decode(url[match.end() :], validate=True)
    except (binascii.Error, ValueError):
        raise ApiError("invalid_image", f"{name} is not valid base64", param=name) from None


def decoded_bytes(data: bytes, name: str) -> int:
    """Memory of an image once it is decoded, by its header alone.

    Raises:
        ApiError: It is no image of the formats, damaged, or too large.
    """
    kind = _check(data, name)
    try:
        with open_image(data, name=name, formats=[kind]) as image:
            width, height = image.size
    except ImageError as error:
        raise _refusal(error, name) from None
    if width * height > MAX_PIXELS:
        message = f"{name} has more than {MAX_PIXELS:,} pixels, the limit"
        raise ApiError("image_too_large", message, param=name)
    return 3 * width * height


def check_count(images: Sequence[object], most: int) -> None:
    """Refuse no image, or too many.

    Raises:
        ApiError: There are.
    """
    if not images:
        message = "image is missing; send one or more as image or image[]"
        raise ApiError("missing_required_parameter", message, param="image")
    if len(images) > most:
        message = f"at most {most} images can be used, got {len(images)}"
        raise ApiError("invalid_value", message, param="image")


def _refusal(error: ImageError, name: str) -> ApiError:
    code = "image_too_large" if error.reason == "too_large" else "invalid_image"
    return ApiError(code, str(error), param=name)


def _check(data: bytes, name: str) -> str:
    """The format of an image, by its first bytes.

    Raises:
        ApiError: It is none of ours, or too large by its size or its header.
    """
    if not data:
        raise ApiError("invalid_image", f"{name} is empty, expected an image", param=name)
    if len(data) > MAX_BYTES:
        message = f"{name} has {len(data):,} bytes, the limit is {MAX_BYTES >> 20} MiB"
        raise ApiError("image_too_large", message, param=name)
    kind = next((kind for start, kind in STARTS.items() if data.startswith(start)), None)
    if kind is None or (kind == "WEBP" and data[8:12] != b"WEBP"):
        message = f"{name} is no PNG, JPEG or WebP image"
        raise ApiError("unsupported_image_format", message, param=name)
    return kind
