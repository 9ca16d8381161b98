"""The images that an edit started from, and others that come with the prompts."""

from __future__ import annotations

from pathlib import Path

from deepgen.errors import BenchmarkError
from deepgen.eval.scorer import Drawing


def source_of(drawing: Drawing) -> Path:
    """The image that was edited.

    Raises:
        BenchmarkError: Nobody said where it is.
    """
    if not drawing.sources:
        raise BenchmarkError(
            f"item {drawing.item.id}: the image it was edited from is needed for scoring; name "
            "the folder of prompts and sources with --data"
        )
    return drawing.sources[0]


def beside_source(drawing: Drawing, name: str) -> Path:
    """An image that the item names like its source, from the same folder of prompts."""
    levels = len(drawing.item.sources[0].parts)
    return source_of(drawing).parents[levels - 1] / name
