"""Dataclasses from JSON that deepgen wrote and people may have edited."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from deepgen.errors import shown

T = TypeVar("T")


def decode(kind: type[T], values: object) -> T:
    """A dataclass with the types of its fields checked, whole.

    Args:
        kind: The dataclass; its fields may be dataclasses.
        values: What the JSON says.

    Raises:
        ValueError: A field is missing, unknown or of another type; the message names it.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"expected an object, found {shown(values)}")
    known = {each.name for each in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(map(str, values.keys() - known)):
        raise ValueError(f"unknown {', '.join(unknown)}")
    try:
        decoded: T = _adapter(kind).validate_python(values)  # type: ignore[arg-type]
    except ValidationError as cause:
        problem = cause.errors(include_url=False)[0]
        name = ".".join(map(str, problem["loc"]))
        message = f"{name}: {problem['msg']}, found {shown(problem['input'])}"
        raise ValueError(message) from None
    return decoded


@cache
def _adapter(kind: Any) -> Any:
    return TypeAdapter(kind)
