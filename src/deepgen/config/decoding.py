"""Dataclasses from JSON that deepgen wrote and people may have edited."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from deepgen.errors import shown

T = TypeVar("T")


def decode(kind: type[T], values: object) -> T:
    """A dataclass with every field of exactly the declared JSON type: "5" is no number.

    Args:
        kind: The dataclass; its fields may be dataclasses.
        values: What the JSON says.

    Raises:
        ValueError: A field is missing, unknown or of another type; the message names it.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"expected an object, found {shown(values)}")
    adapter: TypeAdapter[T] = _adapter(kind)  # type: ignore[arg-type]
    try:
        # What JSON has not, such as the dates of YAML, becomes a text.
        decoded: T = adapter.validate_json(json.dumps(values, default=str), strict=True)
    except ValidationError as cause:
        problem = cause.errors(include_url=False)[0]
        name = ".".join(map(str, problem["loc"]))
        reason = problem["msg"].removeprefix("Value error, ")
        if not name:
            raise ValueError(reason) from None
        raise ValueError(f"{name}: {reason}, found {shown(problem['input'])}") from None
    if unknown := _unknown(values, adapter.dump_python(decoded, mode="json")):
        raise ValueError(f"unknown {', '.join(unknown)}")
    return decoded


def _unknown(values: object, decoded: object, prefix: str = "") -> list[str]:
    """Names that the values have and no dataclass; those of inner objects with a dot."""
    if isinstance(values, list) and isinstance(decoded, list):
        pairs = enumerate(zip(values, decoded, strict=True))
        return [name for at, pair in pairs for name in _unknown(*pair, f"{prefix}{at}.")]
    if not (isinstance(values, Mapping) and isinstance(decoded, Mapping)):
        return []
    return [
        name
        for key, value in values.items()
        for name in (
            _unknown(value, decoded[key], f"{prefix}{key}.")
            if key in decoded
            else [f"{prefix}{key}"]
        )
    ]


@cache
def _adapter(kind: Any) -> Any:
    return TypeAdapter(kind)
