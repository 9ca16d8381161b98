from __future__ import annotations

import random
from dataclasses import asdict

import pytest

from deepgen.errors import BenchmarkError
from deepgen.eval.aggregation import aggregate
from deepgen.eval.benchmark import Benchmark, ImageRecord, Item
from deepgen.eval.benchmarks.cvtg.benchmark import CVTG
from deepgen.eval.benchmarks.geneval.benchmark import GENEVAL, TAGS
from deepgen.eval.benchmarks.wise.benchmark import VERIFIED_SIZES, WISE_LEGACY, WISE_VERIFIED
from deepgen.scoring.ocr import score_words
from tests.eval.records import make_item

Run = tuple[Benchmark, list[Item], list[ImageRecord]]


def geneval_run() -> Run:
    items = [make_item(f"{tag}-{n}", tag) for tag in TAGS for n in range(6)]
    records = [
        ImageRecord(
            item=item.id,
            image_index=image_index,
            values={"correct": (number + image_index) % 3 > 0},
        )
        for number, item in enumerate(items)
        for image_index in range(4)
    ]
    return GENEVAL, items, records


def wise_run() -> Run:
    items = [make_item(f"{name}-{n}", name) for name in VERIFIED_SIZES for n in range(50)]
    records = [
        ImageRecord(item=item.id, values={"score": number % 2}) for number, item in enumerate(items)
    ]
    return WISE_VERIFIED, items, records


def cvtg_run() -> Run:
    items = [make_item(str(n), f"CVTG/{2 + n % 4}", words=["new", "york"]) for n in range(8)]
    records = [
        ImageRecord(
            item=item.id, values=asdict(score_words(["new", "york"], ["new " + "york"[: n % 5]]))
        )
        for n, item in enumerate(items)
    ]
    return CVTG, items, records


@pytest.mark.parametrize("run", [geneval_run(), wise_run(), cvtg_run()])
def test_neither_order_nor_repetition_of_records_matters(run: Run) -> None:
    benchmark, items, records = run
    expected = aggregate(benchmark, items, records)
    shuffled = random.Random(0).sample(records * 2, k=2 * len(records))
    assert aggregate(benchmark, items, shuffled) == expected
    assert expected.coverage == 1.0
    assert expected.overall is not None


def test_of_two_records_for_an_image_the_later_counts() -> None:
    benchmark, items, records = wise_run()
    again = [ImageRecord(item=each.item, values={"score": 1}) for each in records]
    failed = [ImageRecord(item=each.item, status="error") for each in records]
    assert aggregate(benchmark, items, failed + again).overall == 1.0


def test_a_score_is_incomplete_beyond_one_percent_of_failures() -> None:
    benchmark, items, records = wise_run()
    for failures, incomplete in ((3, False), (4, True)):
        broken = [
            ImageRecord(item=each.item, status="refused", reason="filter") for each in records
        ][:failures]
        scores = aggregate(benchmark, items, broken + records[failures:])
        assert scores.counts["refused"] == failures
        assert scores.incomplete is incomplete
        assert (scores.overall is None) is incomplete
        assert scores.coverage_by_category["Cultural"] == pytest.approx(1 - failures / 50)
        assert scores.coverage_by_category["Chemistry"] == 1.0


def test_a_failure_is_never_a_zero_unless_asked_for() -> None:
    benchmark, items, records = wise_run()
    right = [ImageRecord(item=each.item, values={"score": 1}) for each in records]
    right[0] = ImageRecord(item=right[0].item, status="unreadable")
    assert aggregate(benchmark, items, right).overall == 1.0
    # A perfect score but for one of fifty prompts of culture, which weighs .4.
    assert aggregate(benchmark, items, right, "pessimistic").overall == pytest.approx(1 - 0.4 / 50)
    # The official code names no overall when any prompt is missing.
    assert aggregate(benchmark, items, right, "official").overall is None


def test_a_record_of_no_expected_image_is_refused() -> None:
    benchmark, items, records = wise_run()
    stranger = ImageRecord(item="1001", values={"score": 1})
    with pytest.raises(BenchmarkError, match="wise/verified expects no image 0 of item 1001"):
        aggregate(benchmark, items, [*records, stranger])
    with pytest.raises(BenchmarkError, match="expects no image 1 of item Cultural-0"):
        aggregate(benchmark, items, [ImageRecord(item="Cultural-0", image_index=1)])


@pytest.mark.parametrize("found", [{}, {"score": 2}, {"score": None}, {"score": "1"}])
def test_values_that_cannot_be_are_named_with_their_item(found: dict[str, object]) -> None:
    benchmark, items, _ = wise_run()
    with pytest.raises(BenchmarkError, match="item Cultural-0: 'score' is "):
        aggregate(benchmark, items, [ImageRecord(item="Cultural-0", values=found)])


def test_nothing_scored_is_no_score() -> None:
    benchmark, items, _ = wise_run()
    scores = aggregate(benchmark, items, [])
    assert (scores.overall, scores.coverage, scores.counts["missing"]) == (None, 0.0, 300)
    assert scores.subset
    assert aggregate(WISE_LEGACY, [], []).overall is None
