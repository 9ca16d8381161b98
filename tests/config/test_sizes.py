from __future__ import annotations

import json
import math

import pytest

from deepgen.config.sizes import (
    check_side,
    dynamic,
    fix_pixels,
    reference_size,
)
from tests.shared import golden

SHAPES = [(height, width) for height in range(7, 1200, 61) for width in range(5, 1200, 53)]


def test_the_dynamic_rule_gives_the_tabulated_sizes() -> None:
    for case in json.loads(golden("inputs/resize_rule.json").read_text()):
        size = dynamic(case["height"], case["width"], case["image_size"])
        assert size == (case["out_height"], case["out_width"]), case


def in_floating_point(height: int, width: int) -> tuple[int, int]:
    """As the public implementation computes it."""
    ratio = 512 / math.sqrt(height * width)
    return math.ceil(height * ratio / 32) * 32, math.ceil(width * ratio / 32) * 32


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (1024, 1024, (512, 512)),
        (768, 1024, (448, 608)),
        (1080, 1920, (384, 704)),
        (1024, 1536, (448, 640)),
        (200, 300, (448, 640)),
        (500, 2000, (256, 1024)),
        (777, 333, (800, 352)),
        (160, 1600, (192, 1632)),
    ],
)
def test_fix_pixels_gives_the_published_sizes(
    height: int, width: int, expected: tuple[int, int]
) -> None:
    assert fix_pixels(height, width, 512) == expected


def test_whole_numbers_do_not_overshoot_where_floating_point_does() -> None:
    assert fix_pixels(279, 496, 512) == (384, 704)
    assert in_floating_point(279, 496) == (416, 704)


def test_both_forms_of_fix_pixels_agree_where_no_side_is_an_exact_multiple() -> None:
    differing = [shape for shape in SHAPES if fix_pixels(*shape, 512) != in_floating_point(*shape)]
    assert differing == []


def test_fix_pixels_is_the_smallest_pair_of_multiples_that_covers_the_scaled_image() -> None:
    for height, width in SHAPES:
        tall, wide = fix_pixels(height, width, 512)
        assert tall % 32 == wide % 32 == 0
        assert tall**2 * width >= 512**2 * height and wide**2 * height >= 512**2 * width
        assert tall == 32 or (tall - 32) ** 2 * width < 512**2 * height
        assert wide == 32 or (wide - 32) ** 2 * height < 512**2 * width


def test_every_square_becomes_the_default_square() -> None:
    assert {fix_pixels(side, side, 512) for side in range(1, 3000, 7)} == {(512, 512)}


@pytest.mark.parametrize("size", [(64, 96), (1024, 1024), (32, 32 * 1024)])
def test_a_reference_that_fits_keeps_its_size(size: tuple[int, int]) -> None:
    assert reference_size(*size, 512, max_side=2**15) == size


@pytest.mark.parametrize("size", [(65, 96), (1024, 1056), (2048, 2048), (10, 10)])
def test_a_reference_that_does_not_fit_takes_the_default_area(size: tuple[int, int]) -> None:
    assert reference_size(*size, 512, max_side=2**15) == fix_pixels(*size, 512)


@pytest.mark.parametrize("side", [0, -64, 33, 16, True, 64.0, None])
def test_a_side_that_is_no_positive_multiple_is_refused(side: object) -> None:
    with pytest.raises(ValueError, match="height must be"):
        check_side("height", side)


def test_the_nearest_sides_are_named() -> None:
    with pytest.raises(ValueError, match="96 and 128 are the nearest"):
        check_side("height", 100)


def test_a_side_without_positions_is_refused() -> None:
    assert check_side("width", 1024, max_side=1024) == 1024
    with pytest.raises(ValueError, match="at most 1024"):
        check_side("width", 1056, max_side=1024)


def test_an_empty_image_has_no_size() -> None:
    with pytest.raises(ValueError, match="positive"):
        fix_pixels(0, 10, 512)
