"""The colour of an object, by CLIP: GenEval's colour step (arXiv 2310.11513)."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool
from PIL import Image
from torch.nn.functional import normalize

from deepgen.scoring.clip import Clip, Embeddings

# Replaces the surroundings of the object, so that they do not affect its colour.
GREY = "#999"

_TEMPLATES = (
    "a photo of a {color} {label}",
    "a photo of a {color}-colored {label}",
    "a photo of a {color} object",
)


class ClipColors:
    """Zero-shot classification of objects of a class among named colours.

    A colour is the mean embedding of three texts; an object has the colour of the highest cosine
    with its image.
    """

    def __init__(self, clip: Clip, colors: Sequence[str]) -> None:
        self.clip = clip
        self.colors = tuple(colors)
        self._directions: dict[str, Embeddings] = {}
        self._lock = threading.Lock()

    def read(self, label: str, crops: Sequence[Image.Image]) -> list[str]:
        """The colours of objects of one class, each cropped by :func:`cut_out`."""
        if not crops:
            return []
        with self._lock:
            directions = self._of_class(label)
            nearest = (self.clip.embed_images(crops) @ directions.T).argmax(dim=-1)
        return [self.colors[index] for index in nearest.tolist()]

    def _of_class(self, label: str) -> Embeddings:
        if label not in self._directions:
            texts = [
                template.format(color=color, label=label)
                for color in self.colors
                for template in _TEMPLATES
            ]
            each = self.clip.embed_texts(texts).view(len(self.colors), len(_TEMPLATES), -1)
            self._directions[label] = normalize(torch.mean(each, dim=1), dim=-1)
        return self._directions[label]


def cut_out(
    image: Image.Image,
    box: tuple[float | int, float | int, float | int, float | int],
    mask: Bool[np.ndarray, "height width"] | None,
) -> Image.Image:
    """An object on grey, cropped to its box; without a mask, its whole box."""
    image = image.convert("RGB")
    if mask is not None:
        grey = Image.new("RGB", image.size, GREY)
        image = Image.composite(image, grey, Image.fromarray(mask))
    left, top, right, bottom = (round(edge) for edge in box)
    # A box thinner than half a pixel would be empty.
    return image.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
