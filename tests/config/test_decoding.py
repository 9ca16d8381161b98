from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

import pytest

from deepgen.config.decoding import decode


@dataclass(frozen=True)
class Inner:
    size: int


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner
    many: tuple[Inner, ...] = ()


def test_a_dataclass_comes_out_as_the_json_says() -> None:
    values = {"name": "a", "inner": {"size": 1}, "many": [{"size": 2}]}
    assert decode(Outer, values) == Outer("a", Inner(1), (Inner(2),))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 5}, "name: .*found 5"),
        ({"inner": {"size": "5"}}, "inner.size: .*found '5'"),
        ({"inner": {"size": 1.5}}, "inner.size: "),
        ({"inner": {"size": date(2020, 1, 1)}}, "inner.size: .*found '2020-01-01'"),
        ({"inner": {}}, "inner.size: "),
        ({"inner": {"size": 1, "other": 2}}, "unknown inner.other"),
        ({"many": [{"size": 1}, {"size": 1, "odd": 0}]}, "unknown many.1.odd"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode(Outer, {"name": "a", "inner": {"size": 1}, **change})
    with pytest.raises(ValueError, match="expected an object"):
        decode(Outer, [1])
