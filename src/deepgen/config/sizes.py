"""Which size an image takes on its way into the model; integers only, no torch."""

from __future__ import annotations

import math

from deepgen.config.model import SIZE_UNIT

LATENT_SCALE = 8
"""Pixels per latent, along each side."""

Size = tuple[int, int]
"""(height, width)."""


def fix_pixels(height: int, width: int, side: int) -> Size:
    """About ``side * side`` pixels in the image's own shape, never fewer.

    Both sides are the smallest multiples of 32 that hold ``side / sqrt(height * width)`` times the
    image. In whole numbers: in floating point some exact multiples come out one step too large.
    """
    _check(height, width, side)
    return _covering(side, height, width), _covering(side, width, height)


def dynamic(height: int, width: int, side: int) -> Size:
    """The longer side becomes ``side`` if it reaches it; otherwise both are rounded up.

    Multiples of 32; the rule of the public command line.
    """
    _check(height, width, side)
    if width >= height and width >= side:
        return _round_up(height * side, width), side
    if height >= width and height >= side:
        return side, _round_up(width * side, height)
    return _round_up(height, 1), _round_up(width, 1)


def reference_size(height: int, width: int, default_side: int, *, max_side: int) -> Size:
    """The size a reference is seen in.

    Its own where both sides are multiples of 32 and its area is at most (2 x the model's side)
    squared; else :func:`fix_pixels` around the model's side.

    Args:
        max_side: Longest side that the model has positions for.

    Raises:
        ValueError: A side would be longer than that.
    """
    _check(height, width, default_side)
    fits = height * width <= (2 * default_side) ** 2
    whole = height % SIZE_UNIT == 0 and width % SIZE_UNIT == 0
    seen = (height, width) if fits and whole else fix_pixels(height, width, default_side)
    if max(seen) > max_side:
        raise ValueError(
            f"an image of {width} x {height} would be resized to {seen[1]} x {seen[0]}, but sides "
            f"may be at most {max_side} for this model; crop it"
        )
    return seen


def check_side(name: str, side: object, *, max_side: int | None = None) -> int:
    """Return an output side, if the model can draw it.

    Raises:
        ValueError: It is not a positive multiple of 32, or longer than ``max_side``.
    """
    if isinstance(side, bool) or not isinstance(side, int) or side < SIZE_UNIT:
        raise ValueError(f"{name} must be a positive multiple of {SIZE_UNIT}, got {side!r}")
    if side % SIZE_UNIT:
        below = side - side % SIZE_UNIT
        raise ValueError(
            f"{name} must be a multiple of {SIZE_UNIT}, got {side}; "
            f"{below} and {below + SIZE_UNIT} are the nearest"
        )
    if max_side is not None and side > max_side:
        raise ValueError(f"{name} must be at most {max_side} for this model, got {side}")
    return side


def nearest_side(numerator: int, denominator: int) -> int:
    """The multiple of 32, at least 32, that is nearest to a fraction; the larger of two as near."""
    unit = denominator * SIZE_UNIT
    return SIZE_UNIT * max(1, (2 * numerator + unit) // (2 * unit))


def _covering(side: int, length: int, other: int) -> int:
    """Smallest multiple ``m`` of 32 with ``m^2 * other >= side^2 * length``."""
    needed = -(-(side * side * length) // (other * SIZE_UNIT * SIZE_UNIT))
    root = math.isqrt(needed)
    steps = root if root * root >= needed else root + 1
    return SIZE_UNIT * max(1, steps)


def _round_up(numerator: int, denominator: int) -> int:
    """A fraction, rounded up to a multiple of 32."""
    return -(-numerator // (denominator * SIZE_UNIT)) * SIZE_UNIT


def _check(height: int, width: int, side: int) -> None:
    if min(height, width, side) < 1:
        raise ValueError(f"sizes must be positive, got {height} x {width} for side {side}")
