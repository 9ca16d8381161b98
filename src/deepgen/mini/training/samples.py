"""What the embedded model is trained on: samples of the whole world, and their labels.

A sample is a function of its number. None shows a held-out composition
(:mod:`deepgen.mini.world.held_out`).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

from deepgen.mini.world.layout import box
from deepgen.mini.world.sampling import sample
from deepgen.mini.world.scene import Item, Scene, Thing
from deepgen.mini.world.wording import LARGE, SMALL

Language = Literal["en", "zh"]

SIDE = 96
"""Side of the images, in pixels."""

T2I_WEIGHTS: dict[str, float] = {
    "one": 0.10,
    "size": 0.04,
    "style": 0.05,
    "tint": 0.09,
    "two": 0.08,
    "relation": 0.12,
    "two tints": 0.10,
    "count": 0.10,
    "word": 0.10,
    "word below": 0.10,
    "description": 0.04,
    "sum": 0.02,
    "difference": 0.02,
    "negation": 0.02,
    "odd one out": 0.02,
}
"""How often each kind comes up among text-to-image samples. Relations, counts and words are hardest
to learn; what takes reasoning asks for images of the other kinds."""

EDIT_WEIGHTS: dict[str, float] = {
    "add": 0.09,
    "remove": 0.07,
    "replace": 0.12,
    "recolour": 0.09,
    "move": 0.10,
    "change background": 0.06,
    "change count": 0.08,
    "change style": 0.05,
    "add word": 0.05,
    "change word": 0.08,
    "remove word": 0.03,
    "replace described": 0.05,
    "remove described": 0.03,
    "more or fewer": 0.04,
    "keep one kind": 0.03,
    "remove odd one": 0.03,
}
"""Likewise among edits of one image."""

COMBINE_WEIGHTS: dict[str, float] = {"onto background": 0.5, "together": 0.5}
"""Likewise among edits with two references."""

WEIGHTS = (T2I_WEIGHTS, EDIT_WEIGHTS, COMBINE_WEIGHTS)
"""By number of references."""

REFERENCES = (0.5, 0.44, 0.06)
"""How many of all samples have no reference, one and two."""

CHINESE = 0.3
"""Fraction of samples whose text is Chinese."""

# Columns and rows of a three-by-three grid; the middle of an axis goes without a word.
_ROWS = ("top", "", "bottom")
_COLUMNS = ("left", "", "right")
_PLACED = 0.16
"""Of the canvas: a centre farther than this from the middle of an axis is called top, left, ..."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingSample:
    """A prompt or instruction in one language, and the image that fulfils it."""

    kind: str
    """One of ``deepgen.mini.world.sampling.KINDS``."""
    language: Language
    text: str
    """The prompt, or the instruction."""
    target: Scene
    sources: tuple[Scene, ...] = ()
    """The images to edit; none for text-to-image."""


def training_sample(
    number: int,
    references: int,
    *,
    kind: str | None = None,
    split: str = "train",
    side: int = SIDE,
) -> TrainingSample:
    """Training sample ``number`` among those with so many references.

    Args:
        number: Neighbours have nothing in common.
        references: 0 for text-to-image, 1 for edits, 2 for edits that combine two images.
        kind: One of those with so many references; without one it is drawn by its weight.
        split: Another split's name gives other samples.
        side: Of all images, in pixels; a multiple of 32.
    """
    # The string is a seed: to change it is to change every sample.
    rng = random.Random(f"mini 1, {split}, {references}, {number}")
    weights = WEIGHTS[references]
    kind = kind or rng.choices(tuple(weights), tuple(weights.values()))[0]
    own = sample(rng.getrandbits(62), kind=kind, canvas=(side, side))
    language: Language = "zh" if rng.random() < CHINESE else "en"
    return TrainingSample(
        kind=kind,
        language=language,
        text=getattr(own.prompt, language),
        target=own.target,
        sources=own.sources,
    )


def any_sample(number: int, *, split: str = "train", side: int = SIDE) -> TrainingSample:
    """Training sample ``number`` of all; half of them are text-to-image."""
    rng = random.Random(f"references, {split}, {number}")
    references = rng.choices(range(len(REFERENCES)), REFERENCES)[0]
    return training_sample(number, references, split=split, side=side)


def labels(scene: Scene, *, places: bool = True) -> str:
    """What an image shows, in the fewest words: its background, then each item's features.

    Args:
        places: Say where items are.

    >>> labels(training_sample(0, 0).target)  # doctest: +SKIP
    'background pink; fox left red; car right; word bottom L A M P'
    """
    items = sorted(scene.items, key=lambda item: (round(item.center[0], 1), item.center[1]))
    described = [_label(item, scene, places) for item in items]
    return "; ".join([f"background {scene.background}", *described])


def _label(item: Item, scene: Scene, places: bool) -> str:
    place = _place(item, scene) if places else []
    if not isinstance(item, Thing):
        return " ".join(["word", *place, *item.text])
    features = [item.name.replace(" ", "-"), *place]
    if item.tint is not None:
        features.append(item.tint)
    if item.style == "line":
        features.append("line")
    if len(scene.items) == 1 and not SMALL <= item.size < LARGE:
        features.append("small" if item.size < SMALL else "large")
    return " ".join(features)


def _place(item: Item, scene: Scene) -> list[str]:
    """Where an item is on a grid of three by three."""
    edges = box(item, scene.height, scene.width)
    y = (edges.top + edges.bottom) / 2 / scene.height - 0.5
    x = (edges.left + edges.right) / 2 / scene.width - 0.5
    words = (_axis(y, _ROWS), _axis(x, _COLUMNS))
    return [word for word in words if word]


def _axis(offset: float, words: tuple[str, str, str]) -> str:
    return words[1] if abs(offset) <= _PLACED else words[0] if offset < 0 else words[2]
