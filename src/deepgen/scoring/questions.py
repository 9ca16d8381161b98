"""Requests to a judge: text and images in order."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from deepgen.errors import ImageError
from deepgen.images.io import open_image, read_file, to_rgb

MEDIA_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif"}
"""Formats that judges accept without conversion."""

Detail = Literal["", "low", "high", "auto"]


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedImage:
    """An image as the bytes that are sent."""

    data: bytes
    media_type: str
    detail: Detail = ""
    """Resolution at which the judge reads it, for services with this option."""

    @property
    def sha256(self) -> str:
        """Hash of the encoded bytes, so another encoding is another image."""
        return hashlib.sha256(self.data).hexdigest()

    def url(self) -> str:
        """The image as a data URL."""
        return f"data:{self.media_type};base64,{base64.b64encode(self.data).decode('ascii')}"


def stored_image(path: Path, *, detail: Detail = "") -> EncodedImage:
    """An image file, byte for byte.

    Raises:
        ImageError: There is no such file, it is damaged, or judges do not accept its format.
    """
    try:
        data = read_file(path, name=str(path))
        with open_image(data, name=str(path)) as image:
            # Pillow calls a JPEG with a second image, as phones write, MPO.
            media_type = MEDIA_TYPES.get("JPEG" if image.format == "MPO" else str(image.format))
            to_rgb(image, name=str(path))
    except ImageError as error:
        if error.reason != "not_an_image":
            raise
        media_type = None
    if media_type is None:
        raise ImageError(
            f"{path} cannot be sent to a judge; expected one of {', '.join(MEDIA_TYPES)}"
        )
    return EncodedImage(data=data, media_type=media_type, detail=detail)


def png_image(image: Image.Image, *, detail: Detail = "") -> EncodedImage:
    """A losslessly encoded image."""
    return EncodedImage(data=_encoded(image, "PNG"), media_type="image/png", detail=detail)


def jpeg_image(
    image: Image.Image, *, quality: int = 95, longest_side: int | None = None, detail: Detail = ""
) -> EncodedImage:
    """An image as JPEG, downsized first if its longer side exceeds ``longest_side``."""
    image = image.convert("RGB")
    if longest_side is not None:
        image.thumbnail((longest_side, longest_side))
    data = _encoded(image, "JPEG", quality=quality)
    return EncodedImage(data=data, media_type="image/jpeg", detail=detail)


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """One request to a judge."""

    parts: tuple[str | EncodedImage, ...]
    """Parts of the one user message."""
    system: str = ""
    """The system message; none if empty."""

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("a question needs at least one part, text or image")

    @property
    def text(self) -> str:
        """All text, without the images."""
        texts = [part for part in self.parts if isinstance(part, str)]
        return "\n".join([self.system, *texts] if self.system else texts)

    @property
    def prompt_hash(self) -> str:
        """SHA-256 of its texts and of the places of images between them."""
        shown = [part if isinstance(part, str) else None for part in self.parts]
        return sha256_of_json([self.system, shown])

    def messages(self) -> list[dict[str, Any]]:
        """In the form of a chat-completions request."""
        return self._messages(EncodedImage.url)

    def fingerprint(self) -> list[dict[str, Any]]:
        """The messages with a hash instead of each image: the key of the cache."""
        return self._messages(lambda image: image.sha256)

    def _messages(self, address: Callable[[EncodedImage], str]) -> list[dict[str, Any]]:
        content: list[dict[str, Any]] = []
        for part in self.parts:
            if isinstance(part, str):
                content.append({"type": "text", "text": part})
            else:
                shown = {"url": address(part)}
                if part.detail:
                    shown["detail"] = part.detail
                content.append({"type": "image_url", "image_url": shown})
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": content}]


def sha256_of_json(value: Any) -> str:
    """Hash of a JSON value, independent of the order of keys and of white space."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    # Lone surrogates occur in scraped prompts; they are hashed, not refused.
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()


def _encoded(image: Image.Image, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, kind, **options)
    return buffer.getvalue()
