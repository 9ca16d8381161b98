"""Cutting an image's foreground into parts, along rows and columns that are (nearly) empty."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

Mask = Bool[np.ndarray, "height width"]

# Of a region's extent across a line. Soft edges of neighbours one pixel apart meet, in few places.
NEARLY_FREE = 0.1

# Along one axis. n cuts make (n + 1) (n + 2) / 2 candidates; three things in a row of two loose
# strokes each need no more.
MOST_CUTS = 5

# Of a region's pixels: what each cut must gain. Two letters are one word, unless they are better
# explained apart.
CUT_PRICE = 0.05

# Rows and then columns, or the other way, set the corners of an image apart.
_DEPTH = 2


class Box(NamedTuple):
    """Edges in pixels; bottom and right lie just outside."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def inside(self) -> tuple[slice, slice]:
        """The box as an index into ``[height, width]`` arrays."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


def boxes_of_parts(mask: Mask) -> list[Box]:
    """Tight boxes of all parts that cuts can divide a mask into, the whole first."""
    boxes: dict[Box, None] = {}
    waiting = [(whole, _DEPTH) for whole in tight_boxes(mask, Box(0, 0, *mask.shape))]
    while waiting:
        box, depth = waiting.pop()
        boxes[box] = None
        if depth:
            for axis in (0, 1):
                parts = _parts(mask, box, axis).values()
                waiting += [(part, depth - 1) for part in parts if part != box]
    return list(boxes)


def explain(mask: Mask, values: Mapping[Box, float]) -> list[Box]:
    """The parts of the best division of a mask.

    Args:
        mask: The foreground that :func:`boxes_of_parts` was given.
        values: How well each of its boxes is explained as one thing, from 0 to 1; weighted by the
            number of foreground pixels in the box.
    """

    @cache
    def best(box: Box, depth: int) -> tuple[float, tuple[Box, ...]]:
        weight = float(mask[box.inside].sum())
        ways: list[tuple[float, tuple[Box, ...]]] = [(weight * values[box], (box,))]
        for axis in (0, 1) if depth else ():
            parts = _parts(mask, box, axis)
            worth = {span: best(part, depth - 1) for span, part in parts.items() if part != box}
            if worth:
                ways.append(_best_chain(worth, price=CUT_PRICE * weight))
        return max(ways, key=lambda way: way[0])

    return [
        box for whole in tight_boxes(mask, Box(0, 0, *mask.shape)) for box in best(whole, _DEPTH)[1]
    ]


def _best_chain(
    worth: Mapping[tuple[int, int], tuple[float, tuple[Box, ...]]], price: float
) -> tuple[float, tuple[Box, ...]]:
    """The sequence of adjacent spans of the highest total value, at a price per cut."""
    chains: dict[int, tuple[float, tuple[Box, ...]]] = {0: (price, ())}
    for last in range(1, max(end for _, end in worth) + 1):
        chains[last] = max(
            (
                (chains[start][0] + value - price, chains[start][1] + boxes)
                for (start, end), (value, boxes) in worth.items()
                if end == last
            ),
            key=lambda chain: chain[0],
        )
    return chains[max(chains)]


def _parts(mask: Mask, box: Box, axis: int) -> dict[tuple[int, int], Box]:
    """Tight boxes between any two cuts across an axis, by the numbers of the cuts."""
    cuts = _cuts(mask[box.inside], axis)
    parts = {}
    for first, start in enumerate(cuts[:-1]):
        for last, end in enumerate(cuts[first + 1 :], first + 1):
            if axis == 0:
                strip = Box(box.top + start, box.left, box.top + end, box.right)
            else:
                strip = Box(box.top, box.left + start, box.bottom, box.left + end)
            for part in tight_boxes(mask, strip):
                parts[first, last] = part
    return parts


def _cuts(region: Mask, axis: int) -> list[int]:
    """Where a tight region can be cut into rows (axis 0) or columns, its two ends included."""
    crossing = region.sum(axis=1 - axis)
    low = np.flatnonzero(crossing <= NEARLY_FREE * region.shape[1 - axis])
    runs = np.split(low, np.flatnonzero(np.diff(low) > 1) + 1)
    inner = [run for run in runs if len(run) and run[0] > 0 and run[-1] < len(crossing) - 1]
    # The freest come first, and of these the widest.
    inner.sort(key=lambda run: (crossing[run].min(), -len(run)))
    middles = []
    for run in inner[:MOST_CUTS]:
        freest = run[crossing[run] == crossing[run].min()]
        middles.append(int(freest[len(freest) // 2]))
    return [0, *sorted(middles), len(crossing)]


def tight_boxes(mask: Mask, box: Box) -> list[Box]:
    """The smallest box around the foreground within a box, as a list; empty if there is none."""
    region = mask[box.inside]
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    if not len(rows):
        return []
    return [
        Box(
            box.top + int(rows[0]),
            box.left + int(columns[0]),
            box.top + int(rows[-1]) + 1,
            box.left + int(columns[-1]) + 1,
        )
    ]
