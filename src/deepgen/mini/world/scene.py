"""What an image of the mini's world shows, as plain values.

A :class:`Scene` is the whole truth about one image: its canvas, its background and up to four
items. ``drawing`` turns it into pixels, ``wording`` into sentences, ``editing`` into another scene.
Nothing here renders, reads files or draws random numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from deepgen.mini.world.lettering import ALPHABET

Style = Literal["colour", "line"]
Background = Literal["white", "gray", "blue", "green", "yellow", "orange", "pink", "purple"]
Tint = Literal["red", "orange", "yellow", "green", "blue", "purple", "pink", "brown"]

# Pale enough that black outlines stand out, and distant enough to be told apart by a median.
BACKGROUNDS: dict[Background, tuple[int, int, int]] = {
    "white": (255, 255, 255),
    "gray": (186, 190, 194),
    "blue": (126, 182, 240),
    "green": (142, 212, 138),
    "yellow": (250, 228, 116),
    "orange": (247, 172, 100),
    "pink": (247, 178, 204),
    "purple": (184, 152, 226),
}

MAX_ITEMS = 4
MAX_LETTERS = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Thing:
    """One drawn object."""

    name: str
    """Key of ``knowledge.OBJECTS``."""
    center: tuple[float, float]
    """(y, x) of the drawing's centre, in fractions of the canvas height and width."""
    size: float
    """Side of the drawing's square, as a fraction of the shorter canvas side."""
    tint: Tint | None = None
    """None keeps the drawing's own colours; only tintable objects take another."""
    style: Style = "colour"

    def __post_init__(self) -> None:
        _check_place(self.name, self.center, self.size)


@dataclass(frozen=True, kw_only=True, slots=True)
class Word:
    """One written word of up to six capitals or digits, in black."""

    text: str
    center: tuple[float, float]
    """(y, x) of the word's centre, in fractions of the canvas height and width."""
    size: float
    """Height of the capitals, as a fraction of the shorter canvas side."""

    def __post_init__(self) -> None:
        _check_place(self.text, self.center, self.size)
        if not 1 <= len(self.text) <= MAX_LETTERS or set(self.text) - set(ALPHABET):
            raise ValueError(
                f"a word is 1 to {MAX_LETTERS} of {ALPHABET} (no look-alikes), got {self.text!r}"
            )


Item = Thing | Word


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """Everything an image shows; two equal scenes are the same image, pixel by pixel."""

    height: int
    width: int
    background: Background
    items: tuple[Item, ...]

    def __post_init__(self) -> None:
        if self.height % 32 or self.width % 32 or min(self.height, self.width) < 32:
            raise ValueError(
                f"canvas sides are positive multiples of 32, got {self.height}x{self.width}"
            )
        if self.background not in BACKGROUNDS:
            raise ValueError(f"background is one of {list(BACKGROUNDS)}, got {self.background!r}")
        if len(self.items) > MAX_ITEMS:
            raise ValueError(f"a scene holds up to {MAX_ITEMS} items, got {len(self.items)}")

    @property
    def things(self) -> tuple[Thing, ...]:
        """The drawn objects, in drawing order."""
        return tuple(item for item in self.items if isinstance(item, Thing))

    @property
    def words(self) -> tuple[Word, ...]:
        """The written words, in drawing order."""
        return tuple(item for item in self.items if isinstance(item, Word))


def _check_place(label: str, center: tuple[float, float], size: float) -> None:
    if not all(0.0 <= value <= 1.0 for value in center) or not 0.0 < size <= 1.0:
        raise ValueError(f"{label!r} lies outside the canvas: center {center}, size {size}")
