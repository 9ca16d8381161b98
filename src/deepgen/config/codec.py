"""Configurations from YAML; unknown names and wrong types are refused with a suggestion."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python

from deepgen.errors import reason_of, shown
from deepgen.reading import read_yaml as read_yaml_values

Config = TypeVar("Config")

MAY_CHANGE: Final = "may change within a run"
"""Marks a setting, ``Annotated[Path, MAY_CHANGE]``, or a group of them that a resumed run may have
otherwise than the checkpoint; all others are compared."""

SIMILAR = 0.7
"""Similarity from which a name is suggested: ``stpes`` and ``steps`` have 0.8, ``lerning_rate`` and
any setting of a stage less than 0.6."""


def read_yaml(path: Path, base: Config) -> Config:
    """A configuration, with the values of a YAML file in place of its own.

    Raises:
        ValueError: The file cannot be read, or a key or a value is invalid.
    """
    return updated(base, read_values(path), name=str(path))


def read_values(path: Path) -> Mapping[Any, Any]:
    """The mapping in a YAML file; empty for an empty file.

    Raises:
        ValueError: The file cannot be read, or is not a mapping.
    """
    try:
        values = read_yaml_values(path)
    except (OSError, UnicodeDecodeError) as cause:
        raise ValueError(f"{path} cannot be read: {reason_of(cause)}") from None
    except ValueError as cause:
        raise ValueError(f"{path} is not valid YAML: {cause}") from None
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise ValueError(f"{path} must map names to values, found {type(values).__name__}")
    return values


def nearest_name(name: str, base: Any) -> str | None:
    """The setting with the most similar name, with its group, as ``optimizer.lr``.

    Args:
        name: As it was typed, with or without its group.

    Returns:
        None where no name is similar.
    """
    known = _dotted_names(base)
    # A setting is also found by its name without the group, before a similar one.
    ends = {each.rpartition(".")[2]: each for each in reversed(known)}
    near = difflib.get_close_matches(name, [*known, *ends], 1, SIMILAR)
    return ends.get(near[0], near[0]) if near else None


def updated(base: Config, values: Mapping[Any, Any], *, name: str) -> Config:
    """A configuration with other values in some fields.

    Args:
        values: By field name; a mapping where the field is a dataclass itself.
        name: Where the values are from, for errors.

    Raises:
        ValueError: An unknown name, with the nearest known one, or a value of the wrong type.
    """
    known = [each.name for each in fields(base)]  # type: ignore[arg-type]
    types = get_type_hints(type(base), include_extras=True)
    changes = {}
    for key, value in values.items():
        if key not in known:
            near = nearest_name(str(key), base)
            hint = f"known are {', '.join(sorted(known))}" if near is None else _meant(near)
            raise ValueError(f"{name} has no setting {key!r}; {hint}")
        own = getattr(base, key)
        if is_dataclass(own):
            if not isinstance(value, Mapping):
                group = ", ".join(each.name for each in fields(own))
                raise ValueError(
                    f"{name}: {key} is a group of settings ({group}), found {shown(value)}"
                )
            changes[key] = updated(own, value, name=f"{name}, {key}")
            continue
        try:
            changes[key] = TypeAdapter(types[key]).validate_python(value)
        except ValidationError as cause:
            problem = cause.errors()[0]["msg"]
            raise ValueError(f"{name}: {key} cannot be {shown(value)} ({problem})") from None
    try:
        return replace(base, **changes)  # type: ignore[type-var]
    except ValueError as cause:
        raise ValueError(f"{name}: {cause}") from None


def to_values(config: Any) -> dict[str, Any]:
    """A configuration as plain values; :func:`updated` reads them back."""
    values: dict[str, Any] = to_jsonable_python(config)
    return values


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted names.

    >>> flattened({"data": {"side": 512}, "steps": 9})
    {'data.side': 512, 'steps': 9}
    """
    flat: dict[str, Any] = {}
    for name, value in values.items():
        inner = flattened(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {}
        flat |= inner or {f"{prefix}{name}": value}
    return flat


def compared_values(config: Any) -> dict[str, Any]:
    """The settings that define a run: all that are not marked :data:`MAY_CHANGE`."""
    types = get_type_hints(type(config), include_extras=True)
    return {
        each.name: compared_values(value) if is_dataclass(value) else to_jsonable_python(value)
        for each in fields(config)
        for value in [getattr(config, each.name)]
        if MAY_CHANGE not in getattr(types[each.name], "__metadata__", ())
    }


def write_yaml(path: Path, config: Any) -> None:
    """Write a whole configuration, in the order of its fields."""
    import yaml

    text = yaml.safe_dump(to_values(config), sort_keys=False, allow_unicode=True)
    path.write_text(text, encoding="utf-8")


def _dotted_names(base: Any, prefix: str = "") -> list[str]:
    """Names of all settings and groups; settings of groups with the group before a dot."""
    names = []
    for each in fields(base):
        names.append(prefix + each.name)
        inner = getattr(base, each.name)
        if is_dataclass(inner):
            names += _dotted_names(inner, f"{names[-1]}.")
    return names


def _meant(name: str) -> str:
    outer, _, inner = name.rpartition(".")
    return f"did you mean {name}{f' ({inner} in the group {outer})' if outer else ''}?"
