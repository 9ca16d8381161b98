"""Curves of a run's metrics as inline SVG, coloured by the page that they are in."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby

WIDTH, HEIGHT = 320, 120
"""Of a drawing, in its own units; the page scales it."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 6, 8, 18

MOST_POINTS = 400
"""Of a curve; longer ones are averaged over neighbours, and no eye sees the difference."""

Points = Sequence[tuple[int, float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """One metric over the steps."""

    name: str
    points: Points
    """Step and value; values that are no numbers leave gaps."""

    @property
    def finite(self) -> list[float]:
        """The values that are numbers."""
        return [value for _, value in self.points if math.isfinite(value)]

    @property
    def is_constant(self) -> bool:
        """Whether there is nothing to draw: one value at all steps, or none."""
        return len(set(self.finite)) < 2

    @property
    def last(self) -> str:
        """The last value."""
        return shown(self.points[-1][1])

    def draw(self, first: int, last: int) -> str:
        """An SVG element; two curves with the same first and last step share an axis."""
        low, high = min(self.finite), max(self.finite)
        label = (
            f"{self.name}, step {self.points[0][0]} to {self.points[-1][0]}: lowest {shown(low)}, "
            f"highest {shown(high)}, last {self.last}"
        )
        lines = "".join(_lines(thinned(self.points), (first, last), (low, high)))
        right, bottom = WIDTH - _RIGHT, HEIGHT - _BOTTOM
        return (
            f'<svg class="curve" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'aria-label="{escape(label)}">'
            f'<path class="frame" d="M{_LEFT} {_TOP}V{bottom}H{right}"/>{lines}'
            f'<text class="end" x="{_LEFT - 5}" y="{_TOP + 4}">{shown(high)}</text>'
            f'<text class="end" x="{_LEFT - 5}" y="{bottom}">{shown(low)}</text>'
            f'<text x="{_LEFT}" y="{HEIGHT - 5}">{first:,}</text>'
            f'<text class="end" x="{right}" y="{HEIGHT - 5}">{last:,}</text></svg>'
        )


def shown(value: float) -> str:
    """A number in at most four digits."""
    if not math.isfinite(value):
        return str(value)
    if value and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.2e}"
    return f"{value:,.0f}" if value == round(value) else f"{value:.4g}"


def thinned(points: Points) -> Points:
    """Means of neighbouring points, where there are more than can be seen."""
    size = math.ceil(len(points) / MOST_POINTS)
    if size < 2:
        return points
    parts = [points[start : start + size] for start in range(0, len(points), size)]
    return [
        (part[len(part) // 2][0], math.fsum(value for _, value in part) / len(part))
        for part in parts
    ]


def _lines(points: Points, steps: tuple[int, int], values: tuple[float, float]) -> Iterator[str]:
    """Connected runs of finite values; a lone one is a dot."""
    (first, last), (low, high) = steps, values
    across = (WIDTH - _LEFT - _RIGHT) / max(last - first, 1)
    down = (HEIGHT - _TOP - _BOTTOM) / (high - low)
    for is_finite, part in groupby(points, key=lambda point: math.isfinite(point[1])):
        if not is_finite:
            continue
        places = [
            f"{_LEFT + (step - first) * across:.1f},{_TOP + (high - value) * down:.1f}"
            for step, value in part
        ]
        if len(places) == 1:
            x, y = places[0].split(",")
            yield f'<circle class="dot" cx="{x}" cy="{y}" r="2"/>'
        else:
            yield f'<polyline class="line" points="{" ".join(places)}"/>'
