"""Which objects an image of the mini's world shows, where, and on which background.

Independent of the renderer: the background is the median colour along the border, objects are what
a flood fill from the border does not reach, and a small classifier, trained on rendered crops,
predicts name, tint and style, or *none* for anything unknown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from deepgen.mini.reader.parts import Box, Mask, boxes_of_parts, explain

Name = TypeVar("Name", bound=str)

SHIPPED = Path(__file__).resolve().parent / "assets"
"""Folder of the trained classifier and templates that the package carries."""

SHIPPED_FOR_REWARDS = SHIPPED.with_name("reward_assets")
"""Folder of the classifier that rewards use, so that they and the benchmark share none."""

NONE = "none"
"""The label of everything that is not a known object, and the tint of what has no nameable one."""

WORD = "word"
"""The label of written words, which :mod:`deepgen.mini.reader.letters` reads."""

STYLES = ("colour", "line")

CROP = 40
"""Side of the classifier's input, in pixels."""

# Sum over the channels. Some outlines have gaps, and then this is all that keeps an orange cat
# apart from an orange background (40) or a pink pig from a pink one (31). Nothing keeps a panda
# from white.
FLOW_THRESHOLD = 30

# Of the shorter side of the image. Smaller specks are not objects: the smallest drawing of the
# world is more than twice as long, the smallest capital a third longer.
MIN_LENGTH = 0.1

# A part that is not a known object explains the image half as well as one that is: so two objects
# are not taken for one unknown thing, and the pieces of an unknown one not for doubtful objects.
UNKNOWN_VALUE = 0.5

# A thing gets a name only if that is likelier than all other labels together.
LEAST_SURE = 0.5

Pixels = UInt8[np.ndarray, "height width 3"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Detection:
    """One object, or one word, in an image."""

    label: str
    """Name of the object, or ``word``, or ``none``."""
    probability: float
    tint: str
    """The predicted tint; ``none`` for no nameable one. Meaningless for labels without tints."""
    style: str
    """``colour`` or ``line``."""
    mask: Mask
    box: Box


class Logits(NamedTuple):
    """The classifier's predictions of each crop."""

    labels: Float[Tensor, "batch labels"]
    tints: Float[Tensor, "batch tints"]
    styles: Float[Tensor, "batch styles"]


@runtime_checkable
class CropClassifier(Protocol):
    """Predicts what a crop shows."""

    labels: tuple[str, ...]
    tints: tuple[str, ...]

    def __call__(self, crops: Float[Tensor, "batch 3 40 40"]) -> Logits:
        """Logits of crops in [-1, 1]."""
        ...


class ObjectClassifier(nn.Module):
    """A small convolutional network from crops to object names, tints and styles."""

    def __init__(self, labels: Sequence[str], tints: Sequence[str]) -> None:
        super().__init__()
        self.labels, self.tints = tuple(labels), tuple(tints)
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
        self.sizes = (len(self.labels), len(self.tints), len(STYLES))
        self.head = nn.Linear(widths[-1] * (CROP // 16) ** 2, sum(self.sizes))

    def forward(self, crops: Float[Tensor, "batch 3 40 40"]) -> Logits:
        """Logits of crops in [-1, 1]."""
        return Logits(*self.head(self.blocks(crops).flatten(1)).split(self.sizes, dim=-1))


class ResidualClassifier(nn.Module):
    """Another network for the same task, which reads for rewards.

    A reward and a benchmark with the same network would share its mistakes, and a policy that
    learned to exploit them would seem to have improved. So it has another architecture (residual
    blocks of depthwise convolutions, global pooling) and another seed.
    """

    def __init__(self, labels: Sequence[str], tints: Sequence[str]) -> None:
        super().__init__()
        self.labels, self.tints = tuple(labels), tuple(tints)
        width, depth = 112, 4
        self.stem = nn.Sequential(
            nn.Conv2d(3, 56, 5, stride=2, padding=2),
            nn.GELU(),
            nn.Conv2d(56, width, 3, stride=2, padding=1),
            nn.BatchNorm2d(width),
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, 5, padding=2, groups=width),
                nn.BatchNorm2d(width),
                nn.Conv2d(width, 2 * width, 1),
                nn.GELU(),
                nn.Conv2d(2 * width, width, 1),
            )
            for _ in range(depth)
        )
        self.norm = nn.BatchNorm2d(width)
        self.sizes = (len(self.labels), len(self.tints), len(STYLES))
        self.head = nn.Linear(2 * width, sum(self.sizes))

    def forward(self, crops: Float[Tensor, "batch 3 40 40"]) -> Logits:
        """Logits of crops in [-1, 1]."""
        features = self.stem(crops)
        for block in self.blocks:
            features = features + block(features)
        features = self.norm(features).flatten(2)
        pooled = torch.cat([features.mean(dim=-1), features.amax(dim=-1)], dim=-1)
        return Logits(*self.head(pooled).split(self.sizes, dim=-1))


def save_classifier(classifier: ObjectClassifier | ResidualClassifier, folder: Path) -> None:
    """Write weights, labels and tints."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(classifier.state_dict(), folder / "reader.safetensors")
    names = {"labels": classifier.labels, "tints": classifier.tints}
    (folder / "reader.json").write_text(json.dumps(names, indent=1) + "\n")


def load_classifier(folder: Path = SHIPPED) -> ObjectClassifier:
    """Read what :func:`save_classifier` wrote."""
    classifier = ObjectClassifier(**json.loads((folder / "reader.json").read_text()))
    classifier.load_state_dict(load_file(folder / "reader.safetensors"))
    return classifier.eval()


def load_reward_classifier(folder: Path = SHIPPED_FOR_REWARDS) -> ResidualClassifier:
    """Read the one for rewards."""
    classifier = ResidualClassifier(**json.loads((folder / "reader.json").read_text()))
    classifier.load_state_dict(load_file(folder / "reader.safetensors"))
    return classifier.eval()


def read_background(
    image: Image.Image, palette: Mapping[Name, tuple[int, int, int]]
) -> tuple[Name, float]:
    """Name of the palette colour nearest to the border's median, and its distance in levels."""
    color = border_color(np.asarray(image.convert("RGB")))
    distances = {name: float(np.abs(color - np.array(rgb)).max()) for name, rgb in palette.items()}
    name = min(distances, key=lambda key: distances[key])
    return name, distances[name]


def foreground(image: Image.Image) -> Mask:
    """Pixels that a flood fill of the background from the border does not reach."""
    pixels = np.asarray(image.convert("RGB"))
    color = np.floor(border_color(pixels))
    near = np.abs(pixels - color).sum(axis=-1) <= FLOW_THRESHOLD
    # A frame of pure background connects all parts of it, so that one fill reaches them all.
    framed = np.pad(near, 1, constant_values=True)
    reached = np.zeros_like(framed)
    reached[0] = True
    count = 0
    while count < (count := int(reached.sum())):
        for fillable, filled in ((framed, reached), (framed.T, reached.T)):
            for here in range(1, len(filled)):
                filled[here] |= fillable[here] & filled[here - 1]
            for here in range(len(filled) - 2, -1, -1):
                filled[here] |= fillable[here] & filled[here + 1]
    covered: Mask = ~reached[1:-1, 1:-1]
    return covered


def find_objects(image: Image.Image, classifier: CropClassifier) -> list[Detection]:
    """All objects and words of an image, from left to right.

    Drawings have loose strokes, and neighbours may almost touch. So every division of the
    foreground along empty rows and columns is a candidate, and the classifier decides: the one
    whose parts it is most certain of wins.
    """
    pixels = np.asarray(image.convert("RGB"))
    covered = foreground(image)
    boxes = boxes_of_parts(covered)
    if not boxes:
        return []
    color = border_color(pixels)
    with torch.inference_mode():
        logits = classifier(torch.stack([to_crop(pixels, box, color) for box in boxes]))
    probabilities = logits.labels.softmax(dim=-1)
    known, best = probabilities.max(dim=-1)
    unknown = best == classifier.labels.index(NONE)
    values = torch.where(unknown, known * UNKNOWN_VALUE, known).tolist()
    least = MIN_LENGTH * min(covered.shape)
    found = []
    for box in explain(covered, dict(zip(boxes, values, strict=True))):
        if max(box.bottom - box.top, box.right - box.left) < least:
            continue
        row = boxes.index(box)
        label = classifier.labels[int(best[row])] if known[row] >= LEAST_SURE else NONE
        mask = np.zeros_like(covered)
        mask[box.inside] = covered[box.inside]
        found.append(
            Detection(
                label=label,
                probability=known[row].item(),
                tint=classifier.tints[int(logits.tints[row].argmax())],
                style=STYLES[int(logits.styles[row].argmax())],
                mask=mask,
                box=box,
            )
        )
    return _whole_words(sorted(found, key=lambda each: each.box.left))


def to_crop(
    pixels: Pixels, box: tuple[int, int, int, int], color: np.ndarray
) -> Float[Tensor, "3 40 40"]:
    """A box and one pixel around it, in the middle of a square of plain background."""
    height, width = pixels.shape[:2]
    top, left = max(box[0] - 1, 0), max(box[1] - 1, 0)
    cut = pixels[top : min(box[2] + 1, height), left : min(box[3] + 1, width)]
    side = max(cut.shape[:2]) + 2
    square = np.empty((side, side, 3), dtype=np.uint8)
    square[:] = color
    down, right = (side - cut.shape[0]) // 2, (side - cut.shape[1]) // 2
    square[down : down + cut.shape[0], right : right + cut.shape[1]] = cut
    small = Image.fromarray(square).resize((CROP, CROP), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.asarray(small, dtype=np.float32) / 127.5 - 1).permute(2, 0, 1)


def mask_iou(first: Mask, second: Mask) -> float:
    """Intersection over union of two masks; two empty ones agree."""
    union = np.logical_or(first, second).sum()
    return float(np.logical_and(first, second).sum() / union) if union else 1.0


def _whole_words(found: Sequence[Detection]) -> list[Detection]:
    """The detections from left to right, words close together on one line joined into one.

    A piece of a word looks like a word itself, so that the classifier cannot know it is a piece.
    """
    joined: list[Detection] = []
    for each in found:
        before = next((other for other in reversed(joined) if _continues(other, each)), None)
        if before is None:
            joined.append(each)
            continue
        joined[joined.index(before)] = replace(
            before,
            probability=min(before.probability, each.probability),
            mask=before.mask | each.mask,
            box=Box(
                min(before.box.top, each.box.top),
                before.box.left,
                max(before.box.bottom, each.box.bottom),
                max(before.box.right, each.box.right),
            ),
        )
    return joined


def _continues(first: Detection, second: Detection) -> bool:
    if first.label != WORD or second.label != WORD:
        return False
    heights = [each.box.bottom - each.box.top for each in (first, second)]
    shared = min(first.box.bottom, second.box.bottom) - max(first.box.top, second.box.top)
    gap = second.box.left - first.box.right
    return shared >= 0.5 * max(heights) and gap <= 0.5 * max(heights)


def border_color(pixels: Pixels) -> Float[np.ndarray, " 3"]:
    """Median colour of the outermost pixels."""
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    color: np.ndarray = np.median(border, axis=0)
    return color
