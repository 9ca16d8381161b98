"""Which objects a picture of the mini's world shows, where, and on which background.

Independent of the generator: the background is the median colour along the border, an object is
what the background cannot flow into, and a small classifier, trained on rendered crops, says what
it is, or that it is nothing it knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor, nn

Name = TypeVar("Name", bound=str)

NONE = "none"
"""The class of everything that is no known object."""

CROP = 40
"""Side of the classifier's input, in pixels."""

# Sum over the channels. Some outlines have gaps, and then this is all that keeps an orange cat
# apart from an orange background (40) or a pink pig from a pink one (31). Nothing keeps a panda
# from white.
FLOW_THRESHOLD = 30

# Smaller specks are not objects; the smallest drawing of the world covers several times as much.
MIN_SHARE = 0.008


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """One object in a picture."""

    label: str
    """Name of the object, or ``none``."""
    probability: float
    mask: np.ndarray
    """``[height, width]`` bool."""
    box: tuple[int, int, int, int]
    """(top, left, bottom, right), ends excluded."""


class ObjectClassifier(nn.Module):
    """A small convolutional network from crops to object names."""

    def __init__(self, labels: Sequence[str]) -> None:
        super().__init__()
        self.labels = tuple(labels)
        widths = (3, 24, 48, 96, 96)
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(before, after, 3, padding=1),
                    nn.BatchNorm2d(after),
                    nn.ReLU(),
                    nn.MaxPool2d(2),
                )
                for before, after in pairwise(widths)
            )
        )
        self.head = nn.Linear(widths[-1] * (CROP // 16) ** 2, len(self.labels))

    def forward(self, crops: Float[Tensor, "batch 3 40 40"]) -> Float[Tensor, "batch labels"]:
        """Logits of crops in [-1, 1]."""
        logits: Tensor = self.head(self.blocks(crops).flatten(1))
        return logits


def read_background(
    image: Image.Image, palette: Mapping[Name, tuple[int, int, int]]
) -> tuple[Name, float]:
    """Name of the palette colour nearest to the border's median, and its distance in levels."""
    color = _border_color(np.asarray(image.convert("RGB")))
    distances = {name: float(np.abs(color - np.array(rgb)).max()) for name, rgb in palette.items()}
    name = min(distances, key=lambda key: distances[key])
    return name, distances[name]


def foreground(image: Image.Image) -> np.ndarray:
    """What the background does not reach from the border, as ``[height, width]`` bool."""
    array = np.asarray(image.convert("RGB"))
    color = tuple(int(value) for value in _border_color(array))
    # A frame of pure background joins all parts of it, so that one fill reaches everything.
    framed = Image.new("RGB", (image.width + 2, image.height + 2), color)
    framed.paste(image.convert("RGB"), (1, 1))
    marker = (255, 0, 255) if color != (255, 0, 255) else (0, 255, 0)
    ImageDraw.floodfill(framed, (0, 0), marker, thresh=FLOW_THRESHOLD)
    filled = (np.asarray(framed) == np.array(marker)).all(axis=-1)
    covered: np.ndarray = ~filled[1:-1, 1:-1]
    return covered


def find_objects(image: Image.Image, classifier: ObjectClassifier) -> list[Found]:
    """All objects of a picture, from left to right."""
    masks = _parts(foreground(image))
    if not masks:
        return []
    boxes = [_box(mask) for mask in masks]
    crops = torch.stack([to_crop(image, box) for box in boxes])
    with torch.inference_mode():
        probabilities = classifier(crops).softmax(dim=-1)
    best = probabilities.argmax(dim=-1).tolist()
    found = [
        Found(
            label=classifier.labels[index],
            probability=probabilities[row, index].item(),
            mask=masks[row],
            box=boxes[row],
        )
        for row, index in enumerate(best)
    ]
    return sorted(found, key=lambda each: each.box[1])


def to_crop(image: Image.Image, box: tuple[int, int, int, int]) -> Float[Tensor, "3 40 40"]:
    """Cut a square around a box, with a margin of background, for the classifier."""
    top, left, bottom, right = box
    side = max(bottom - top, right - left) * 1.1 + 2
    center_y, center_x = (top + bottom) / 2, (left + right) / 2
    color = tuple(int(value) for value in _border_color(np.asarray(image.convert("RGB"))))
    corners = (
        round(center_x - side / 2),
        round(center_y - side / 2),
        round(center_x + side / 2),
        round(center_y + side / 2),
    )
    cut = Image.new("RGB", (corners[2] - corners[0], corners[3] - corners[1]), color)
    cut.paste(image.convert("RGB"), (-corners[0], -corners[1]))
    pixels = np.asarray(cut.resize((CROP, CROP), Image.Resampling.BILINEAR), dtype=np.float32)
    return torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1)


def mask_iou(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two masks; two empty ones agree."""
    union = np.logical_or(first, second).sum()
    return float(np.logical_and(first, second).sum() / union) if union else 1.0


def _border_color(array: np.ndarray) -> np.ndarray:
    border = np.concatenate([array[0], array[-1], array[:, 0], array[:, -1]])
    color: np.ndarray = np.median(border, axis=0)
    return color


def _parts(mask: np.ndarray) -> list[np.ndarray]:
    """Split a mask into objects: connected parts, those with overlapping columns joined.

    Drawings have loose strokes (whiskers, flying sparks) above or below their body, while objects
    of a scene stand apart by at least one column or one row that is free.
    """
    columns = _runs(np.any(mask, axis=0))
    parts = []
    for left, right in columns:
        for top, bottom in _runs(np.any(mask[:, left:right], axis=1), gap=mask.shape[0] // 8):
            part = np.zeros_like(mask)
            part[top:bottom, left:right] = mask[top:bottom, left:right]
            if part.mean() >= MIN_SHARE:
                parts.append(part)
    return parts


def _runs(flags: Any, gap: int = 1) -> list[tuple[int, int]]:
    """Stretches of true values, joined over fewer than ``gap`` false ones."""
    runs: list[tuple[int, int]] = []
    for index in np.flatnonzero(flags).tolist():
        if runs and index - runs[-1][1] < gap:
            runs[-1] = (runs[-1][0], index + 1)
        else:
            runs.append((index, index + 1))
    return runs


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1
