"""Images of an edit as a judge sees them: the source, others of the prompts, and the result."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from deepgen.errors import BenchmarkError
from deepgen.eval.scorer import GeneratedImage
from deepgen.scoring.questions import EncodedImage, jpeg_image

PILLOW_QUALITY = 75
"""Pillow's default for JPEG, where official code gives none."""
_LONGEST_SIDE = 768


def source_of(generated: GeneratedImage) -> Path:
    """The image that was edited.

    Raises:
        BenchmarkError: Its folder was not named.
    """
    if not generated.sources:
        raise BenchmarkError(
            f"item {generated.item.id}: the image it was edited from is needed for scoring; name "
            "the folder of prompts and sources with --data"
        )
    return generated.sources[0]


def beside_source(generated: GeneratedImage, name: str) -> Path:
    """An image that the item names like its source, from the same folder of prompts."""
    levels = len(generated.item.sources[0].parts)
    return source_of(generated).parents[levels - 1] / name


def shrunk_image(image: Image.Image) -> EncodedImage:
    """JPEG of at most 768 pixels a side, in high detail: as RISEBench and UniREditBench do."""
    return jpeg_image(image, quality=PILLOW_QUALITY, longest_side=_LONGEST_SIDE, detail="high")
