"""Checks of single settings; each error names the setting, what is allowed and what was found."""

from __future__ import annotations

import math
from collections.abc import Sequence

from deepgen.errors import shown


def check_at_least(name: str, value: int | float | None, least: int) -> None:
    """Refuse what is smaller than ``least``, or no finite number; None means not set.

    Raises:
        ValueError: It is.
    """
    if value is not None and not least <= value < math.inf:
        raise ValueError(f"{name} must be at least {least}, got {value}")


def check_positive(name: str, value: int | float | None) -> None:
    """Refuse what is not a finite number above 0; None means not set.

    Raises:
        ValueError: It is not.
    """
    if value is not None and not 0 < value < math.inf:
        raise ValueError(f"{name} must be a positive number, got {value}")


def check_within(name: str, value: object, least: int | float, most: int | float) -> None:
    """Refuse what is not a number from ``least`` to ``most``.

    Raises:
        ValueError: It is not.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not least <= value <= most:  # type: ignore[operator]
        raise ValueError(f"{name} must be a number from {least:g} to {most:g}, got {shown(value)}")


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Refuse what is none of ``choices``.

    Raises:
        ValueError: It is none.
    """
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {shown(value)}")


def check_below_one(name: str, value: float) -> None:
    """Refuse what is not in [0, 1).

    Raises:
        ValueError: It is not.
    """
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be at least 0 and below 1, got {value}")


def check_fraction(name: str, value: float) -> None:
    """Refuse what is not in [0, 1].

    Raises:
        ValueError: It is not.
    """
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be from 0 to 1, got {value}")
