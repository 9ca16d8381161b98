"""Which colour an object has, by CLIP: GenEval's colour step (arXiv 2310.11513)."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool
from PIL import Image
from torch.nn.functional import normalize

from deepgen.scoring.clip import Clip, Embeddings

# Around the object, so that its surroundings lend it no colour.
GREY = "#999"

_TEMPLATES = (
    "a photo of a {color} {label}",
    "a photo of a {color}-colored {label}",
    "a photo of a {color} object",
)


class ClipColors:
    """Chooses among named colours for objects of a class, without having learned them.

    Every colour is the mean direction of three texts, and an object has the colour whose direction
    is nearest to that of its image.
    """

    def __init__(self, clip: Clip, colors: Sequence[str]) -> None:
        self.clip = clip
        self.colors = tuple(colors)
        self._directions: dict[str, Embeddings] = {}
        self._lock = threading.Lock()

    def read(self, label: str, crops: Sequence[Image.Image]) -> list[str]:
        """The colours of some objects of one class, each cut out by :func:`cut_out`."""
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
    """An object on grey, cut to its box; without a mask its surroundings inside the box stay."""
    image = image.convert("RGB")
    if mask is not None:
        grey = Image.new("RGB", image.size, GREY)
        image = Image.composite(image, grey, Image.fromarray(mask))
    left, top, right, bottom = (round(edge) for edge in box)
    # A box thinner than half a pixel would be no image.
    return image.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
