"""Reads a word of the mini's world by matching it with templates of its letters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

UNREADABLE = "?"
"""Stands for a sign that is like no letter."""

# Of letters as wide as 4 strokes and as tall as 6, that stand one stroke apart.
_WIDTH, _HEIGHT, _ADVANCE = 4, 6, 5

# (columns, rows) that signs and templates are compared at: twice the smallest capitals.
_GRID = (12, 18)

# Of a letter's width: letters are rarely aligned to pixels as their templates were.
_SHIFTS = (-0.12, 0.0, 0.12)

# Correlation. True letters score above 0.8, random blots below 0.5.
LEAST_LIKENESS = 0.6

_DARK = 0.5


@dataclass(frozen=True, eq=False, slots=True)
class Letters:
    """An image of every letter, its ink from edge to edge."""

    alphabet: str
    images: Float[np.ndarray, "letters rows columns"]
    """Fraction of ink, 0 to 1."""

    def at(self, width: int, height: int) -> Float[np.ndarray, "letters cells"]:
        """The letters rendered at a size in pixels, standardised for correlation."""
        rows = [_resized(_resized(image, (width, height)), _GRID).ravel() for image in self.images]
        return _standardised(np.stack(rows))


def read_word(
    pixels: UInt8[np.ndarray, "height width 3"], color: Float[np.ndarray, " 3"], letters: Letters
) -> str:
    """Read the word on a crop: black on a plain background of a known colour.

    Returns:
        One sign for each letter's width of ink, ``?`` for those like no letter; empty if nothing
        is dark.
    """
    light = max(float(color.mean()), 1.0)
    ink = (1 - pixels.mean(axis=-1) / light).clip(0, 1).astype(np.float32)
    rows = np.flatnonzero((ink >= _DARK).any(axis=1))
    columns = np.flatnonzero((ink >= _DARK).any(axis=0))
    if not len(rows):
        return ""
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = ink.shape
    guess = round((_HEIGHT * width / height - _WIDTH) / _ADVANCE) + 1
    # A pixel more or less in the height of small capitals is a letter more or less.
    readings = [_read(ink, count, letters) for count in (guess - 1, guess, guess + 1) if count > 0]
    return max(readings, default=(0.0, ""))[1]


def _read(ink: np.ndarray, count: int, letters: Letters) -> tuple[float, str]:
    """Read ink as a word of ``count`` letters; its mean correlation with them, and the word."""
    height, width = ink.shape
    stroke = width / (_WIDTH + (count - 1) * _ADVANCE)
    templates = letters.at(max(2, round(_WIDTH * stroke)), height)
    signs, total = [], 0.0
    for index in range(count):
        cells = np.stack(list(_cells(ink, index * _ADVANCE * stroke, _WIDTH * stroke)))
        likeness = (templates @ _standardised(cells).T).max(axis=1)
        best = int(likeness.argmax())
        total += float(likeness[best])
        signs.append(letters.alphabet[best] if likeness[best] >= LEAST_LIKENESS else UNREADABLE)
    return total / count, "".join(signs)


def _cells(ink: np.ndarray, left: float, width: float) -> Iterator[np.ndarray]:
    """One letter's ink on the grid, read a little to the left, in place and to the right."""
    height, whole = ink.shape
    for shift in _SHIFTS:
        start = min(max(left + shift * width, 0.0), max(whole - width, 0.0))
        edges = (start, 0.0, min(start + width, float(whole)), float(height))
        yield _resized(ink, _GRID, edges).ravel()


def _resized(
    levels: np.ndarray,
    size: tuple[int, int],
    edges: tuple[float, float, float, float] | None = None,
) -> np.ndarray:
    image = Image.fromarray(levels.astype(np.float32))
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR, box=edges))


def _standardised(rows: Float[np.ndarray, "rows cells"]) -> Float[np.ndarray, "rows cells"]:
    centered = rows - rows.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(centered, axis=1, keepdims=True)
    result: np.ndarray = centered / np.maximum(lengths, 1e-6)
    return result
