from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from PIL import Image

from deepgen.eval.aggregation import aggregate
from deepgen.eval.benchmark import Benchmark, Item
from deepgen.eval.benchmarks.corebench.benchmark import COREBENCH
from deepgen.eval.benchmarks.gedit.benchmark import GEDIT_ENGLISH
from deepgen.eval.benchmarks.imgedit.benchmark import IMGEDIT
from deepgen.eval.benchmarks.rise.benchmark import RISE_2025, RISE_2026
from deepgen.eval.benchmarks.unigenbench.benchmark import UNIGENBENCH
from deepgen.eval.benchmarks.uniredit.benchmark import UNIREDIT
from deepgen.eval.benchmarks.wise.benchmark import WISE_LEGACY, WISE_VERIFIED
from deepgen.eval.registry import find_benchmark
from deepgen.scoring.answers import AnswerStatus
from deepgen.scoring.questions import EncodedImage, Question
from tests.eval.judge.images import SIZE, draw, judge_with, paint, shown_in
from tests.eval.records import prompt_folder

CHECK_POINTS = "<analysis>['a', 'b']</analysis><score>[1, 0]</score>"
POINTS: Mapping[str, Any] = {
    "testpoints": ["Style", "Attribute - Color"],
    "descriptions": ["ink drawing", "the sky is green"],
    "dimensions": ["Style", "Attribute"],
}


def images_of(question: Question) -> list[EncodedImage]:
    return [part for part in question.parts if isinstance(part, EncodedImage)]


def first_item(name: str, category: str | None = None) -> Item:
    benchmark = find_benchmark(name)
    items = benchmark.load(prompt_folder(benchmark.folder)).items
    return next(item for item in items if category in (None, item.category))


def point_item() -> Item:
    return Item(id="3", number=3, prompt="a cat", category="x", fields=POINTS)


def rise_item(category: str, **fields: Any) -> Item:
    return Item(
        id=f"{category}_1",
        number=0,
        prompt="let it ripen",
        category=category,
        sources=(PurePosixPath("images/1.png"),),
        fields={"consistency_free": False, "reasoning_wo_ins": False, **fields},
    )


def uniredit_item() -> Item:
    return Item(
        id="Maze/7",
        number=0,
        prompt="rules go further",
        category="Maze",
        sources=(PurePosixPath("original_image/Maze/7.png"),),
        fields={
            "reference_image": "reference_image/Maze/7.png",
            "reference_effect": "a red line to the exit",
            "judge_instruction": "rules\nmore rules",
        },
    )


def test_wise_verified_is_one_verdict_on_the_stored_image(tmp_path: Path) -> None:
    item = first_item("wise/verified")
    drawing = draw(tmp_path, item)
    record, (question,) = judge_with(WISE_VERIFIED, drawing, "<think>0 or 1?</think>\nScore: 1")
    assert record.status == "scored"
    assert record.values == {"score": 1, "judge": "stub"}
    assert record.reason == "verdict: Score: 1"
    assert shown_in(question) == ["text", "result"]
    assert item.prompt in question.text
    assert item.fields["Explanation"] in question.text
    (image,) = images_of(question)
    assert image.data == drawing.path.read_bytes()


def test_wise_legacy_is_three_scores(tmp_path: Path) -> None:
    drawing = draw(tmp_path, first_item("wise/legacy"))
    reply = "Consistency: 2\nRealism: 1\nAesthetic Quality: 0"
    record, (question,) = judge_with(WISE_LEGACY, drawing, reply)
    assert record.values == {
        "consistency": 2,
        "realism": 1,
        "aesthetic_quality": 0,
        "judge": "stub",
    }
    assert question.system


def test_corebench_is_one_question_a_call_image_first(tmp_path: Path) -> None:
    item = first_item("corebench", "R-LR")
    count = len(item.fields["questions"])
    record, asked = judge_with(COREBENCH, draw(tmp_path, item), "yes", "No.", "yes")
    assert record.values["answers"] == [1, 0] + [1] * (count - 2)
    assert [shown_in(question) for question in asked] == [["result", "text"]] * count
    for question, expected in zip(asked, item.fields["questions"], strict=True):
        assert question.parts[1] == f'Prompt: "{item.prompt}"\nQuestion: "{expected}"'


def test_corebench_forgives_a_tenth_of_unreadable_answers_and_no_more(tmp_path: Path) -> None:
    def judged(count: int, unreadable: int) -> Any:
        questions = [f"is it {number}?" for number in range(count)]
        item = Item(
            id="R-LR-001", number=0, prompt="p", category="R-LR", fields={"questions": questions}
        )
        replies = ["maybe"] * unreadable + ["yes"]
        return judge_with(COREBENCH, draw(tmp_path, item), *replies)[0]

    forgiven = judged(10, 1)
    assert (forgiven.status, forgiven.values["answers"]) == ("scored", [None] + [1] * 9)
    failed = judged(10, 2)
    assert (failed.status, failed.values["answers"]) == ("unreadable", [None, None] + [1] * 8)


def test_an_empty_checklist_is_an_error_and_no_score(tmp_path: Path) -> None:
    item = Item(id="R-LR-001", number=0, prompt="p", category="R-LR", fields={"questions": []})
    record, asked = judge_with(COREBENCH, draw(tmp_path, item), "yes")
    assert (record.status, record.reason, asked) == (
        "error",
        "item R-LR-001 has an empty checklist",
        [],
    )


def test_unigenbench_is_all_test_points_in_one_reply(tmp_path: Path) -> None:
    benchmark = UNIGENBENCH["en"]
    record, (question,) = judge_with(benchmark, draw(tmp_path, point_item(), 2), CHECK_POINTS)
    assert (record.image_index, record.values["scores"]) == (2, [1, 0])
    assert shown_in(question) == ["text", "result"]
    assert images_of(question)[0].media_type == "image/png"
    assert "['Style', 'Attribute - Color']" in question.text
    assert "\nAttribute - Color: the sky is green\n" in question.text


def test_the_authors_own_evaluator_sees_a_jpeg_before_the_text(tmp_path: Path) -> None:
    model = "CodeGoat24/UniGenBench-EvalModel-qwen3vl-32b-v1"
    drawing = draw(tmp_path, point_item())
    _, (question,) = judge_with(UNIGENBENCH["en"], drawing, CHECK_POINTS, model=model)
    assert shown_in(question) == ["result", "text"]
    assert images_of(question)[0].media_type == "image/jpeg"


def test_gedit_asks_about_the_edit_and_then_about_the_look(tmp_path: Path) -> None:
    item = first_item("gedit")
    replies = ('{"score": [8, 9], "reasoning": ""}', '{"reasoning": "", "score": [7, 10]}')
    record, asked = judge_with(GEDIT_ENGLISH, draw(tmp_path, item, size=(48, 48)), *replies)
    assert record.values == {"semantics": [8, 9], "quality": [7, 10], "judge": "stub"}
    assert [shown_in(each) for each in asked] == [["text", "source", "result"], ["text", "result"]]
    assert item.prompt in asked[0].text
    assert item.prompt not in asked[1].text
    sizes = {Image.open(io.BytesIO(each.data)).size for q in asked for each in images_of(q)}
    assert sizes == {SIZE}, "the result has the size of its source"
    assert {each.media_type for q in asked for each in images_of(q)} == {"image/jpeg"}


def test_gedit_asks_again_for_whole_numbers(tmp_path: Path) -> None:
    record, _ = judge_with(
        GEDIT_ENGLISH, draw(tmp_path, first_item("gedit")), '{"score": [7.5, 9]}'
    )
    assert record.status == "unreadable"


@pytest.mark.parametrize("kind", ["add", "style", "compose"])
def test_imgedit_asks_by_the_rubric_of_the_type(tmp_path: Path, kind: str) -> None:
    item = first_item("imgedit", kind)
    drawing = draw(tmp_path, item)
    reply = "Fine.\nA: 5\nB: 4\nC: 3"
    record, (question,) = judge_with(IMGEDIT, drawing, reply)
    assert record.values["scores"] == [5, 4, 3]
    assert shown_in(question) == ["text", "source", "result"]
    before, after = images_of(question)
    assert before.data == drawing.sources[0].read_bytes()
    assert after.data == drawing.path.read_bytes()


FINAL = ("**Final Score:** **4**", "Final Score: 5", "Final Score: 3")


@pytest.mark.parametrize(
    ("category", "fields", "shown"),
    [
        ("temporal_reasoning", {"reference": "rotten"}, [["source", "result"], ["result"]]),
        (
            "causal_reasoning",
            {"reference": "broken", "reasoning_img": "1"},
            [["source", "result"], ["source", "result"]],
        ),
        (
            "spatial_reasoning",
            {"reference_img": "images/1_ref.png"},
            [["reference", "result"], ["reference", "result"]],
        ),
        ("spatial_reasoning", {"reference": "turned"}, [["source", "result"], ["result"]]),
    ],
)
def test_rise_asks_for_consistency_reasoning_and_plausibility(
    tmp_path: Path, category: str, fields: dict[str, Any], shown: list[list[str]]
) -> None:
    paint(tmp_path / "data" / "images" / "1_ref.png", "reference")
    drawing = draw(tmp_path, rise_item(category, **fields), size=(1000, 500))
    record, asked = judge_with(RISE_2026, drawing, *FINAL)
    assert record.values == {"consistency": 4, "reasoning": 5, "plausibility": 3, "judge": "stub"}
    assert [shown_in(each)[1:] for each in asked] == [*shown, ["result"]]
    result = images_of(asked[2])[0]
    assert (result.media_type, result.detail) == ("image/jpeg", "high")
    assert Image.open(io.BytesIO(result.data)).size == (768, 384)
    if "reference" in fields:
        assert fields["reference"] in asked[1].text


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"reference_txt": "it is 2"}, [["source", "result"], ["result"]]),
        (
            {"reference_img": "images/1_ref.png"},
            [["reference", "result"], ["reference", "result"]],
        ),
    ],
)
def test_rise_logic_is_right_or_wrong_and_need_not_look_real(
    tmp_path: Path, fields: dict[str, Any], shown: list[list[str]]
) -> None:
    paint(tmp_path / "data" / "images" / "1_ref.png", "reference")
    drawing = draw(tmp_path, rise_item("logical_reasoning", **fields))
    record, asked = judge_with(RISE_2026, drawing, "Final Score: 1", "Final Score: 0")
    assert record.values == {"consistency": 1, "reasoning": 0, "judge": "stub"}
    assert [shown_in(each)[1:] for each in asked] == shown
    out_of_range, _ = judge_with(RISE_2026, drawing, "Final Score: 4")
    assert out_of_range.status == "unreadable"


def test_rise_keeps_the_instruction_from_the_judge_where_the_item_says_so(tmp_path: Path) -> None:
    paint(tmp_path / "data" / "images" / "1_ref.png", "reference")
    item = rise_item("logical_reasoning", reference_img="images/1_ref.png", reasoning_wo_ins=True)
    _, asked = judge_with(RISE_2026, draw(tmp_path, item), "Final Score: 1")
    assert item.prompt in asked[0].text
    assert item.prompt not in asked[1].text


def test_rise_does_not_ask_whether_anything_stayed_where_nothing_has_to(tmp_path: Path) -> None:
    item = rise_item("temporal_reasoning", reference="rotten", consistency_free=True)
    record, asked = judge_with(RISE_2026, draw(tmp_path, item), "Final Score: 5")
    assert record.values == {"reasoning": 5, "plausibility": 5, "judge": "stub"}
    assert len(asked) == 2
    scores = aggregate(RISE_2026, [item], [record])
    assert scores.overall == 100


def test_rise_of_2025_never_showed_the_source_with_the_reasoning(tmp_path: Path) -> None:
    item = rise_item("temporal_reasoning", reference="rotten", reasoning_img="1")
    _, asked = judge_with(RISE_2025, draw(tmp_path, item), "Final Score: 5")
    assert shown_in(asked[1]) == ["text", "result"]


def test_an_edit_of_which_nobody_says_what_is_right_is_an_error(tmp_path: Path) -> None:
    record, asked = judge_with(RISE_2026, draw(tmp_path, rise_item("logical_reasoning")), "")
    assert (record.status, asked) == ("error", [])
    assert "says neither in words nor in an image" in record.reason


def test_uniredit_shows_the_right_result_between_source_and_result(tmp_path: Path) -> None:
    paint(tmp_path / "data" / "reference_image" / "Maze" / "7.png", "reference")
    record, asked = judge_with(UNIREDIT, draw(tmp_path, uniredit_item()), *FINAL)
    assert record.values == {"consistency": 4, "reasoning": 5, "quality": 3, "judge": "stub"}
    assert [shown_in(each) for each in asked] == [
        ["text", "source", "result"],
        ["text", "source", "reference", "result"],
        ["text", "result"],
    ]
    assert "rules\nmore rules" in asked[0].text
    assert "a red line to the exit" in asked[1].text


def test_a_missing_source_or_reference_is_an_error_of_that_image(tmp_path: Path) -> None:
    drawing = draw(tmp_path, uniredit_item())
    record, _ = judge_with(UNIREDIT, drawing, *FINAL)
    assert record.status == "error"
    assert "reference_image" in record.reason
    assert "\n" not in record.reason
    record, _ = judge_with(UNIREDIT, replace(drawing, sources=()), *FINAL)
    assert record.status == "error"
    assert "--data" in record.reason


CASES: list[tuple[Benchmark, Item, str]] = [
    (UNIGENBENCH["en"], point_item(), CHECK_POINTS),
    (RISE_2026, rise_item("temporal_reasoning", reference="rotten"), "Final Score: 5"),
    (RISE_2026, rise_item("logical_reasoning", reference_txt="2"), "Final Score: 1"),
]


@pytest.mark.parametrize(("benchmark", "item", "good"), CASES)
def test_what_cannot_be_read_or_is_refused_fails_and_is_no_zero(
    tmp_path: Path, benchmark: Benchmark, item: Item, good: str
) -> None:
    drawing = draw(tmp_path, item)
    prose, asked = judge_with(benchmark, drawing, "What a lovely image!")
    assert (prose.status, prose.values, len(asked)) == ("unreadable", {}, 1)
    assert "What a lovely image!" in prose.reason
    refused, _ = judge_with(benchmark, drawing, good, AnswerStatus.REFUSED)
    if len(judge_with(benchmark, drawing, good)[1]) > 1:
        assert (refused.status, refused.values) == ("refused", {})
    broken, _ = judge_with(benchmark, drawing, AnswerStatus.ERROR)
    assert (broken.status, broken.values) == ("error", {})
    for record in (prose, broken):
        scores = aggregate(benchmark, [item], [record])
        assert scores.coverage == 0
        assert scores.overall is None


def test_what_scorers_write_is_what_the_benchmarks_add_up(tmp_path: Path) -> None:
    paint(tmp_path / "data" / "reference_image" / "Maze" / "7.png", "reference")
    pairs = '{"score": [9, 4]}'
    cases = [
        (WISE_VERIFIED, first_item("wise/verified"), "Score: 1", "accuracy", 1),
        (
            WISE_LEGACY,
            first_item("wise/legacy"),
            "Consistency: 2\nRealism: 0\nAesthetic Quality: 0",
            "wiscore",
            0.7,
        ),
        (COREBENCH, first_item("corebench", "R-AR"), "yes", "overall", 100),
        (UNIGENBENCH["en"], point_item(), CHECK_POINTS, "micro", 50),
        (GEDIT_ENGLISH, first_item("gedit"), pairs, "overall", 4),
        (IMGEDIT, first_item("imgedit"), "A: 5\nB: 4\nC: 3", "overall", 4),
        (
            RISE_2026,
            rise_item("causal_reasoning", reference="x"),
            "Final Score: 5",
            "accuracy",
            100,
        ),
        (UNIREDIT, uniredit_item(), "Final Score: 3", "percent", 50),
    ]
    for benchmark, item, reply, metric, expected in cases:
        copies = range(benchmark.generation["paper"].images_per_item)
        records = [judge_with(benchmark, draw(tmp_path, item, n), reply)[0] for n in copies]
        scores = aggregate(benchmark, [item], records)
        categories = scores.categories[metric]
        assert sum(categories.values()) / len(categories) == pytest.approx(expected), benchmark.name
