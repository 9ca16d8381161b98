from __future__ import annotations

import math
import xml.etree.ElementTree as ET

import pytest

from deepgen.stages.curves import HEIGHT, MOST_POINTS, WIDTH, Curve, shown, thinned


def places(svg: str) -> list[list[tuple[float, float]]]:
    """The points of every line."""
    return [
        [
            (float(x), float(y))
            for x, y in (each.split(",") for each in line.get("points", "").split())
        ]
        for line in ET.fromstring(svg).iter("polyline")
    ]


def test_higher_values_are_higher_and_later_steps_further_to_the_right() -> None:
    curve = Curve(name="loss", points=[(1, 2.0), (2, 3.0), (4, 1.0)])
    ((first, second, third),) = places(curve.draw(1, 4))
    assert first[0] < second[0] < third[0] <= WIDTH
    assert second[1] < first[1] < third[1] <= HEIGHT
    assert (second[0] - first[0]) * 2 == pytest.approx(third[0] - second[0], abs=0.2)


def test_values_that_are_no_numbers_leave_gaps() -> None:
    values = (1.0, 2.0, math.nan, 3.0, math.inf, 4.0, 5.0)
    svg = Curve(name="kl", points=list(enumerate(values))).draw(0, 6)
    assert [len(line) for line in places(svg)] == [2, 2]
    assert len(list(ET.fromstring(svg).iter("circle"))) == 1
    assert "nan" not in svg
    assert 'aria-label="kl, step 0 to 6: lowest 1, highest 5, last 5"' in svg


def test_names_are_escaped() -> None:
    svg = Curve(name='"<b>', points=[(1, 1.0), (2, 2.0)]).draw(1, 2)
    assert "<b>" not in svg
    ET.fromstring(svg)


def test_constant_curves_are_known() -> None:
    assert Curve(name="lr", points=[(1, 0.1), (2, 0.1), (3, math.nan)]).is_constant
    assert Curve(name="lr", points=[(1, math.nan)]).is_constant
    assert not Curve(name="lr", points=[(1, 0.1), (2, 0.2)]).is_constant


def test_long_curves_are_averaged_over_neighbours() -> None:
    points = [(step, float(step)) for step in range(10 * MOST_POINTS)]
    found = thinned(points)
    assert len(found) == MOST_POINTS
    assert found[0][1] == pytest.approx(4.5)
    assert thinned(points[:9]) == points[:9]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (12.0, "12"), (0.12345, "0.1235"), (1e-7, "1.00e-07"), (math.nan, "nan")],
)
def test_numbers_have_at_most_four_digits(value: float, text: str) -> None:
    assert shown(value) == text
