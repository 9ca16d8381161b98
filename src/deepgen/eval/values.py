"""Checked access to what a scorer recorded: numbers out of range are not scores."""

from __future__ import annotations

from collections.abc import Sequence

from deepgen.errors import BenchmarkError
from deepgen.eval.benchmark import Item, Json, Number, Values


def whole_number(item: Item, values: Values, name: str, low: int, high: int) -> int:
    """A whole number in a closed range."""
    return _checked(item, name, values.get(name), low, high)


def whole_numbers(
    item: Item, values: Values, name: str, count: int, low: int, high: int
) -> Sequence[int]:
    """So many whole numbers in a closed range."""
    found = values.get(name)
    if not isinstance(found, list | tuple) or len(found) != count:
        raise BenchmarkError(
            f"item {item.id}: expected {count} numbers under {name!r}, found {found!r}; a reply "
            "of another form is a record with status unreadable"
        )
    return [_checked(item, name, each, low, high) for each in found]


def measured(item: Item, values: Values, name: str) -> Number:
    """A number that a program computed."""
    found = values.get(name)
    if not isinstance(found, int | float) or found != found:
        raise BenchmarkError(f"item {item.id}: expected a number under {name!r}, found {found!r}")
    return found


def _checked(item: Item, name: str, found: Json, low: int, high: int) -> int:
    # Booleans are 0 and 1, which is what they mean in a checklist.
    if not isinstance(found, int) or not low <= found <= high:
        raise BenchmarkError(
            f"item {item.id}: {name!r} is {found!r}, expected a whole number from {low} to {high}; "
            "a reply out of range is a record with status unreadable"
        )
    return int(found)
