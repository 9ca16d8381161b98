from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from itertools import product

import pytest

from deepgen.eval.benchmarks.geneval.decision import (
    Box,
    Detection,
    find_faults,
    parse_stored_row,
    relations,
)
from deepgen.eval.prompt_files import read_json_lines
from tests.eval.records import prompt_folder

OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


def box_of(label: str, box: Box, confidence: float = 0.95) -> Detection:
    return Detection(label=label, box=box, confidence=confidence)


def objects(label: str, number: int, confidence: float = 0.95) -> list[Detection]:
    return [box_of(label, (20.0 * n, 0, 20.0 * n + 10, 10), confidence) for n in range(number)]


def no_colors(label: str, found: Sequence[Detection]) -> Sequence[str]:
    raise AssertionError("no clause names a colour")


def comparable(reason: str) -> tuple[str, frozenset[str]]:
    """A reason with its relations as a set: the official scorer prints them in any order."""
    before, separator, after = reason.partition(" target, found ")
    named = after.removesuffix("target").strip().split(" and ") if separator else []
    return before, frozenset(named)


def test_every_stored_row_gets_its_official_decision_and_reasons() -> None:
    path = prompt_folder("geneval") / "results_sample.jsonl"
    correct: Counter[str] = Counter()
    rows = list(read_json_lines(path))
    for place, row in rows:
        detections, colors = parse_stored_row(row, place)
        assert colors is not None
        faults = find_faults(json.loads(row["metadata"]), detections, colors)
        stored = row["reason"].split("\n") if row["reason"] else []
        assert [comparable(each) for each in faults] == [comparable(each) for each in stored]
        assert row["correct"] is not bool(faults), row["filename"]
        correct[row["tag"]] += not faults
    assert correct == {"single_object": 16} | dict.fromkeys(
        ("two_object", "counting", "colors", "position", "color_attr"), 8
    )
    assert len(rows) == 120
    assert len({row["metadata"] for _, row in rows}) == 102


def test_colors_are_asked_for_only_where_all_objects_were_found() -> None:
    path = prompt_folder("geneval") / "results_sample.jsonl"
    used: Counter[tuple[str, bool]] = Counter()
    for place, row in read_json_lines(path):
        detections, _ = parse_stored_row(row, place)
        asked: list[str] = []

        def read(label: str, found: Sequence[Detection], asked: list[str] = asked) -> list[str]:
            asked.append(label)
            return ["red"] * len(found)

        find_faults(json.loads(row["metadata"]), detections, read)
        used[row["tag"], bool(asked)] += 1
    # Counted by hand: 6 colour rows lack their object, and 3 attribute rows lack both.
    assert used["colors", False] == 6
    assert used["color_attr", False] == 3
    assert {tag for tag, asked_any in used if asked_any} == {"colors", "color_attr"}


@pytest.mark.parametrize(
    ("first", "second", "named"),
    [
        ((0, 0, 10, 10), (20, 0, 30, 10), {"left of"}),
        ((0, 0, 10, 10), (10, 10, 20, 20), {"left of", "above"}),
        ((0, 0, 10, 10), (10, 4, 20, 14), {"left of"}),
        ((3, 0, 13, 10), (0, 0, 10, 10), set()),
        ((0, 0, 100, 100), (15, 0, 115, 100), set()),
        ((0, 0, 10, 10), (0, 0, 10, 10), set()),
    ],
)
def test_relations_of_worked_examples(first: Box, second: Box, named: set[str]) -> None:
    assert relations(first, second) == named


def test_relations_survive_moving_and_scaling_and_mirror_when_swapped() -> None:
    corners = [(0, 0), (7, 3), (31, 12), (12, 40)]
    boxes: list[Box] = [(x, y, x + 10, y + 8) for x, y in corners]
    for first, second in product(boxes, boxes):
        named = relations(first, second)
        assert not any(OPPOSITE[each] in named for each in named)
        assert relations(second, first) == {OPPOSITE[each] for each in named}
        moved = [tuple(2.5 * value + 64 for value in box) for box in (first, second)]
        assert relations(moved[0], moved[1]) == named  # type: ignore[arg-type]


@pytest.mark.parametrize(("number", "correct"), [(1, False), (2, True), (3, False)])
def test_counting_wants_exactly_the_number(number: int, correct: bool) -> None:
    clocks = {"class": "clock", "count": 2}
    prompt = {"tag": "counting", "include": [clocks], "exclude": [{**clocks, "count": 3}]}
    found = [*objects("clock", number), *objects("cow", 2)]
    assert (not find_faults(prompt, found, no_colors)) is correct


def test_counting_needs_a_surer_detector() -> None:
    prompt = {"tag": "single_object", "include": [{"class": "clock", "count": 1}]}
    unsure = objects("clock", 1, confidence=0.5)
    assert not find_faults(prompt, unsure, no_colors)
    assert find_faults({**prompt, "tag": "counting"}, unsure, no_colors)
    assert find_faults(prompt, objects("clock", 1, confidence=0.3), no_colors)


def test_at_most_sixteen_objects_of_a_class_count() -> None:
    prompt = {"tag": "counting", "include": [], "exclude": [{"class": "cow", "count": 17}]}
    assert not find_faults(prompt, objects("cow", 20), no_colors)


def test_only_the_most_confident_object_shows_its_color() -> None:
    prompt = {"tag": "colors", "include": [{"class": "cow", "count": 1, "color": "red"}]}
    sure, unsure = objects("cow", 1, 0.9)[0], objects("cow", 1, 0.8)[0]

    def read(label: str, found: Sequence[Detection]) -> Sequence[str]:
        return ["blue" if each is sure else "red" for each in found]

    faults = find_faults(prompt, [unsure, sure], read)
    assert faults == ("expected red cow>=1, found 0 red; and 1 blue",)


def test_a_failed_clause_leaves_no_target() -> None:
    clauses = [
        {"class": "cat", "count": 1},
        {"class": "dog", "count": 1, "position": ["above", 0]},
    ]
    faults = find_faults({"tag": "position", "include": clauses}, objects("dog", 1), no_colors)
    assert faults == ("expected cat>=1, found 0", "no target for dog to be above")


def test_a_position_holds_for_every_object_and_target() -> None:
    clauses = [
        {"class": "cat", "count": 2},
        {"class": "dog", "count": 1, "position": ["right of", 0]},
    ]
    dog = box_of("dog", (100, 0, 110, 10))
    cats = [box_of("cat", (0, 0, 10, 10)), box_of("cat", (30, 0, 40, 10))]
    prompt = {"tag": "position", "include": clauses}
    assert not find_faults(prompt, [dog, *cats], no_colors)
    beyond = [cats[0], box_of("cat", (150, 0, 160, 10))]
    assert find_faults(prompt, [dog, *beyond], no_colors) == (
        "expected dog right of target, found left of target",
    )
