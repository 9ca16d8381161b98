from __future__ import annotations

import pytest

from deepgen.config.checks import check_choice, check_within


@pytest.mark.parametrize("value", [0, 1, 0.5])
def test_numbers_of_a_range_are_accepted_to_its_ends(value: float) -> None:
    check_within("it", value, 0, 1)


@pytest.mark.parametrize(
    "value", [-1, 1.1, float("nan"), float("inf"), 10**400, True, "1", None, [1]]
)
def test_everything_else_is_refused_by_name(value: object) -> None:
    with pytest.raises(ValueError, match=r"^it must be a number from 0 to 1, got "):
        check_within("it", value, 0, 1)


@pytest.mark.parametrize("value", ["evil", "", None, 10**400, ["a"]])
def test_what_is_no_choice_is_refused_by_name(value: object) -> None:
    check_choice("it", "a", ("a", "b"))
    with pytest.raises(ValueError, match="it must be one of a, b, got "):
        check_choice("it", value, ("a", "b"))
