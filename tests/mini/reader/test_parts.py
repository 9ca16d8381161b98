import numpy as np

from deepgen.mini.reader.parts import Box, boxes_of_parts, explain

LEFT, RIGHT = Box(2, 1, 8, 6), Box(2, 9, 8, 15)
BOTH = Box(2, 1, 8, 15)


def two_blocks() -> np.ndarray:
    mask = np.zeros((12, 16), bool)
    mask[LEFT.inside] = mask[RIGHT.inside] = True
    return mask


def test_parts_are_the_whole_and_what_free_columns_leave() -> None:
    boxes = boxes_of_parts(two_blocks())
    assert boxes[0] == BOTH
    assert {LEFT, RIGHT} <= set(boxes)
    assert boxes_of_parts(np.zeros((4, 4), bool)) == []


def test_the_whole_stays_whole_when_its_parts_are_hardly_known_better() -> None:
    values = {BOTH: 0.9, LEFT: 0.92, RIGHT: 0.92}
    assert explain(two_blocks(), values) == [BOTH]


def test_an_unknown_whole_is_cut_into_known_parts() -> None:
    values = {BOTH: 0.5, LEFT: 0.9, RIGHT: 0.9}
    assert explain(two_blocks(), values) == [LEFT, RIGHT]


def test_one_known_part_does_not_tear_an_unknown_whole_apart() -> None:
    values = {BOTH: 0.5, LEFT: 0.6, RIGHT: 0.3}
    assert explain(two_blocks(), values) == [BOTH]


def test_neighbours_that_touch_in_one_place_are_cut() -> None:
    mask = np.zeros((24, 32), bool)
    mask[2:22, 2:15] = mask[2:22, 17:30] = True
    mask[8, 15:17] = True
    assert Box(2, 2, 22, 16) in boxes_of_parts(mask)


def test_four_corners_are_told_apart_by_rows_and_columns() -> None:
    mask = np.zeros((20, 20), bool)
    corners = [Box(y, x, y + 7, x + 7) for y in (1, 11) for x in (1, 11)]
    for corner in corners:
        mask[corner.inside] = True
    values = dict.fromkeys(boxes_of_parts(mask), 0.5) | dict.fromkeys(corners, 0.95)
    assert sorted(explain(mask, values)) == corners


def test_noise_does_not_make_candidates_without_end() -> None:
    speckled = np.random.default_rng(0).random((128, 128)) < 0.02
    assert len(boxes_of_parts(speckled)) < 2500
