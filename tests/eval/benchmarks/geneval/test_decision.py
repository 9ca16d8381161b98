from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import product

import pytest

from deepgen.errors import BenchmarkError
from deepgen.eval.benchmarks.geneval.decision import Box, Detection, decide, recheck, relations
from deepgen.eval.prompt_files import read_json_lines
from tests.eval.records import prompt_folder

OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


def box_of(label: str, box: Box, confidence: float = 0.95) -> Detection:
    return Detection(label=label, box=box, confidence=confidence)


def objects(label: str, number: int, confidence: float = 0.95) -> list[Detection]:
    return [box_of(label, (20.0 * n, 0, 20.0 * n + 10, 10), confidence) for n in range(number)]


def no_colors(label: str, found: Sequence[Detection]) -> Sequence[str]:
    raise AssertionError("no clause names a colour")


def test_every_stored_row_gets_its_official_decision_and_reasons() -> None:
    path = prompt_folder("geneval") / "results_sample.jsonl"
    rows = [(recheck(row, place), row) for place, row in read_json_lines(path)]
    assert [each.filename for each, _ in rows if not each.agrees] == []
    correct = Counter(row["tag"] for each, row in rows if each.again.correct)
    assert correct == {"single_object": 16} | dict.fromkeys(
        ("two_object", "counting", "colors", "position", "color_attr"), 8
    )
    assert len(rows) == 120
    assert len({row["metadata"] for _, row in rows}) == 102


def test_rows_whose_colors_come_from_the_stored_reason_are_known() -> None:
    path = prompt_folder("geneval") / "results_sample.jsonl"
    used: Counter[tuple[str, bool]] = Counter()
    for place, row in read_json_lines(path):
        used[row["tag"], recheck(row, place).used_stored_colors] += 1
    # Read off the stored reasons by hand: 6 colour rows lack their object, and 3 attribute rows
    # lack both, so no colour was asked for.
    assert used["colors", False] == 6
    assert used["color_attr", False] == 3
    assert {tag for tag, asked in used if asked} == {"colors", "color_attr"}


def test_an_altered_verdict_is_noticed() -> None:
    path = prompt_folder("geneval") / "results_sample.jsonl"
    place, row = next(iter(read_json_lines(path)))
    assert not recheck({**row, "correct": not row["correct"]}, place).agrees
    assert not recheck({**row, "reason": "expected cow>=1, found 0"}, place).agrees
    with pytest.raises(BenchmarkError, match=r"line 1: not a row of GenEval's scorer"):
        recheck({**row, "details": "[]]"}, place)


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
    assert decide(prompt, found, no_colors).correct is correct


def test_counting_needs_a_surer_detector() -> None:
    prompt = {"tag": "single_object", "include": [{"class": "clock", "count": 1}]}
    unsure = objects("clock", 1, confidence=0.5)
    assert decide(prompt, unsure, no_colors).correct
    assert not decide({**prompt, "tag": "counting"}, unsure, no_colors).correct
    assert not decide(prompt, objects("clock", 1, confidence=0.3), no_colors).correct


def test_at_most_sixteen_objects_of_a_class_count() -> None:
    prompt = {"tag": "counting", "include": [], "exclude": [{"class": "cow", "count": 17}]}
    assert decide(prompt, objects("cow", 20), no_colors).correct


def test_only_the_most_confident_object_shows_its_color() -> None:
    prompt = {"tag": "colors", "include": [{"class": "cow", "count": 1, "color": "red"}]}
    sure, unsure = objects("cow", 1, 0.9)[0], objects("cow", 1, 0.8)[0]

    def read(label: str, found: Sequence[Detection]) -> Sequence[str]:
        return ["blue" if each is sure else "red" for each in found]

    decision = decide(prompt, [unsure, sure], read)
    assert decision.reasons == ("expected red cow>=1, found 0 red; and 1 blue",)


def test_a_failed_clause_leaves_no_target() -> None:
    clauses = [
        {"class": "cat", "count": 1},
        {"class": "dog", "count": 1, "position": ["above", 0]},
    ]
    decision = decide({"tag": "position", "include": clauses}, objects("dog", 1), no_colors)
    assert decision.reasons == ("expected cat>=1, found 0", "no target for dog to be above")


def test_a_position_holds_for_every_object_and_target() -> None:
    clauses = [
        {"class": "cat", "count": 2},
        {"class": "dog", "count": 1, "position": ["right of", 0]},
    ]
    dog = box_of("dog", (100, 0, 110, 10))
    cats = [box_of("cat", (0, 0, 10, 10)), box_of("cat", (30, 0, 40, 10))]
    prompt = {"tag": "position", "include": clauses}
    assert decide(prompt, [dog, *cats], no_colors).correct
    beyond = [cats[0], box_of("cat", (150, 0, 160, 10))]
    assert decide(prompt, [dog, *beyond], no_colors).reasons == (
        "expected dog right of target, found left of target",
    )
