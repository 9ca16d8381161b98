"""Configurations from YAML: strict about names and types, and helpful about both."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

Config = TypeVar("Config")


def read_yaml(path: Path, base: Config) -> Config:
    """A configuration with what a YAML file says in place of its own values.

    Args:
        path: A file whose top level is a mapping of field names.
        base: Frozen dataclass, perhaps of dataclasses; keeps what the file does not name.

    Raises:
        ValueError: The file cannot be read, or a key or a value is none; with the nearest name.
    """
    return updated(base, read_values(path), name=str(path))


def read_values(path: Path) -> Mapping[Any, Any]:
    """What a YAML file maps names to; nothing where it is empty.

    Raises:
        ValueError: The file cannot be read, or maps nothing.
    """
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as cause:
        raise ValueError(f"{path} cannot be read: {cause}") from None
    except yaml.YAMLError as cause:
        raise ValueError(f"{path} is no YAML: {' '.join(str(cause).split())}") from None
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise ValueError(f"{path} must map names to values, found {type(values).__name__}")
    return values


def updated(base: Config, values: Mapping[Any, Any], *, name: str) -> Config:
    """A configuration with other values in some fields.

    Args:
        base: Frozen dataclass.
        values: By field name; a mapping where the field is a dataclass itself.
        name: Where the values are from, for errors.

    Raises:
        ValueError: An unknown name, with the nearest known one, or a value of the wrong type.
    """
    known = {each.name for each in fields(base)}  # type: ignore[arg-type]
    types = get_type_hints(type(base), include_extras=True)
    changes = {}
    for key, value in values.items():
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1, 0.4)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"
            raise ValueError(f"{name} has no setting {key!r}; {hint}")
        own = getattr(base, key)
        if is_dataclass(own) and isinstance(value, Mapping):
            changes[key] = updated(own, value, name=f"{name}, {key}")
            continue
        try:
            changes[key] = TypeAdapter(types[key]).validate_python(value)
        except ValidationError as cause:
            problem = cause.errors()[0]["msg"]
            raise ValueError(f"{name}: {key} cannot be {value!r} ({problem})") from None
    try:
        return replace(base, **changes)  # type: ignore[type-var]
    except ValueError as cause:
        raise ValueError(f"{name}: {cause}") from None


def to_values(config: Any) -> dict[str, Any]:
    """A configuration as what YAML can hold; :func:`updated` reads it back."""
    return {each.name: _plain(getattr(config, each.name)) for each in fields(config)}


def write_yaml(path: Path, config: Any) -> None:
    """Write a whole configuration, in the order of its fields."""
    import yaml

    text = yaml.safe_dump(to_values(config), sort_keys=False, allow_unicode=True)
    path.write_text(text, encoding="utf-8")


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return to_values(value)
    if isinstance(value, Path):
        return str(value)
    return [_plain(each) for each in value] if isinstance(value, tuple) else value
