"""Image files for answers, made beside the event loop."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO
from typing import Any, TypeVar

from PIL import Image

from deepgen.images.io import JPEG_QUALITY, encode_image, image_record
from deepgen.images.provenance import source_of
from deepgen.images.signing import Signer
from deepgen.serve.requests import ImageRequest

Returned = TypeVar("Returned")

THREADS = ThreadPoolExecutor(2, thread_name_prefix="images")
"""For decoding and encoding: few, since each holds an image in memory."""

MAX_EXIF_BYTES = 60_000
"""Of a record in a JPEG or WebP, whose metadata may have 64 kB; a longer one has no prompts."""

PREVIEW_SIDE = 256
"""Longest side of a preview, which has a pixel per 8 of the image."""


async def in_thread(function: Callable[..., Returned], *arguments: Any) -> Returned:
    """Call a function beside the event loop, once one of the few threads is free."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(THREADS, partial(function, *arguments))


async def encoded(
    image: Image.Image, request: ImageRequest, *, seed: int, model: str, signer: Signer | None
) -> str:
    """Base64 of an image's file, with the record of how it was made."""
    return await in_thread(_encoded, image, request, seed, model, signer)


async def encoded_preview(image: Image.Image) -> str:
    """Base64 of a small JPEG, without a record."""
    return await in_thread(_preview, image)


def _encoded(
    image: Image.Image, request: ImageRequest, seed: int, model: str, signer: Signer | None
) -> str:
    record: dict[str, Any] = image_record(
        image,
        prompt=request.prompt,
        seed=seed,
        steps=request.steps,
        guidance=request.guidance,
        model=model,
        further=request.solver.changed,
    )
    if request.negative_prompt is not None:
        record["negative_prompt"] = request.negative_prompt
    is_too_long = request.format != "png" and len(json.dumps(record)) > MAX_EXIF_BYTES
    if request.metadata == "minimal" or is_too_long:
        for name in ("prompt", "negative_prompt"):
            record.pop(name, None)
    kind = request.format.upper()
    quality = None
    if kind == "JPEG":
        quality = JPEG_QUALITY if request.compression == 100 else max(1, request.compression)
    elif kind == "WEBP" and request.compression != 100:
        quality = request.compression
    source = source_of(is_edit=request.is_edit)
    data = encode_image(image, kind, record, quality=quality, source=source, signer=signer)
    return base64.b64encode(data).decode()


def _preview(image: Image.Image) -> str:
    content = BytesIO()
    small = image.copy()
    small.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    small.save(content, format="JPEG", quality=80)
    return base64.b64encode(content.getvalue()).decode()


def to_json(values: Any) -> str:
    """As it is sent: in one line, never NaN."""
    return json.dumps(values, allow_nan=False, separators=(",", ":"))
