"""Aggregates, worked out by hand from each protocol's formula or printed in published tables."""

from __future__ import annotations

from dataclasses import asdict
from math import sqrt

import numpy as np
import pytest

from deepgen.errors import BenchmarkError
from deepgen.eval.aggregation import aggregate, combine
from deepgen.eval.benchmark import Benchmark, ImageRecord, Item
from deepgen.eval.benchmarks.corebench.benchmark import (
    COMPOSITION,
    COREBENCH,
    COREBENCH_REASONING,
    DIMENSIONS,
    REASONING,
    status_of,
)
from deepgen.eval.benchmarks.cvtg.benchmark import CVTG
from deepgen.eval.benchmarks.dpg.benchmark import DPG, DPG_OFFICIAL
from deepgen.eval.benchmarks.gedit.benchmark import GEDIT_ENGLISH, GROUPS
from deepgen.eval.benchmarks.imgedit.benchmark import IMGEDIT, TYPES
from deepgen.eval.benchmarks.rise.benchmark import CATEGORIES, RISE_2025, RISE_2026
from deepgen.eval.benchmarks.unigenbench.benchmark import UNIGENBENCH
from deepgen.eval.benchmarks.uniredit.benchmark import DIMENSIONS as UNIREDIT_DIMENSIONS
from deepgen.eval.benchmarks.uniredit.benchmark import UNIREDIT
from deepgen.eval.benchmarks.wise.benchmark import LEGACY_SIZES, WISE_LEGACY, WISE_VERIFIED
from deepgen.eval.registry import BENCHMARKS
from deepgen.scoring.ocr import score_words
from tests.eval.records import make_item, score

Question = dict[str, object]

# Questions 1 (no parent), 2 (parent 1), 3 (parents 1 and 2), 4 (no parent).
QUESTIONS: list[Question] = [
    {"id": "1", "parents": [], "level 1": "entity", "level 2": "entity - whole"},
    {"id": "2", "parents": ["1"], "level 1": "attribute", "level 2": "attribute - color"},
    {"id": "3", "parents": ["1", "2"], "level 1": "attribute", "level 2": "attribute - size"},
    {"id": "4", "parents": [], "level 1": "entity", "level 2": "entity - part"},
]


def answers(*given: int) -> dict[str, object]:
    return {"answers": {str(n): bool(each) for n, each in enumerate(given, start=1)}}


def of_row(
    benchmark: Benchmark, row: dict[str, float], sizes: dict[str, int], metric: int = 0
) -> float:
    """The whole of a metric whose categories have these means over so many parts."""
    chosen = benchmark.metrics[metric]
    columns = [(chosen.name, name) for name in row]
    weights = np.array([[float(sizes[name]) for name in row]])
    amounts = weights * np.array([list(row.values())])
    return float(combine(chosen, columns, amounts, weights)[0][0])


@pytest.mark.parametrize(
    ("given", "expected"), [((0, 1, 1, 1), 25.0), ((1, 0, 1, 1), 50.0), ((1, 1, 1, 1), 100.0)]
)
def test_dpg_failures_cascade(given: tuple[int, ...], expected: float) -> None:
    item = make_item("a", "plain", questions=QUESTIONS)
    for benchmark in (DPG, DPG_OFFICIAL):
        assert score(benchmark, [(item, [answers(*given)] * 4)]).overall == pytest.approx(expected)


def test_dpg_averages_images_then_prompts() -> None:
    first, second = (make_item(name, "plain", questions=QUESTIONS) for name in "ab")
    tiles = [answers(1, 1, 1, 1), answers(0, 1, 1, 1), answers(1, 0, 1, 1), answers(0, 0, 0, 0)]
    # (1 + .25 + .5 + 0) / 4 = .4375, and a perfect prompt beside it.
    scores = score(DPG, [(first, tiles), (second, [answers(1, 1, 1, 1)] * 4)])
    assert scores.overall == pytest.approx(100 * (0.4375 + 1) / 2)


def test_dpg_category_scores_officially_come_from_the_last_image() -> None:
    item = make_item("a", "plain", questions=QUESTIONS)
    tiles = [answers(0, 0, 1, 0)] * 3 + [answers(1, 1, 0, 0)]
    official = score(DPG_OFFICIAL, [(item, tiles)]).categories
    assert official["level 1"] == {"entity": 50.0, "attribute": 50.0}
    corrected = score(DPG, [(item, tiles)]).categories
    # Entity: question 1 once, 4 never, of 8 answers. Attribute: 2 once, 3 three times.
    assert corrected["level 1"] == {"entity": 12.5, "attribute": 50.0}
    # With dependencies 3 never holds: its parents fail in the three, and it fails in the last.
    assert corrected["level 1, dependencies held"] == {"entity": 12.5, "attribute": 12.5}
    assert corrected["level 2"]["attribute - size"] == 75.0


def test_dpg_dependencies_hold_in_any_order_of_rows_only_when_corrected() -> None:
    child_first = [QUESTIONS[2], QUESTIONS[1], QUESTIONS[0], QUESTIONS[3]]
    item = make_item("a", "plain", questions=child_first)
    found = [(item, [answers(0, 1, 1, 1)] * 4)]
    assert score(DPG, found).overall == 25.0
    # In the order of rows, 3 sees 1 fail as well; but with 1 true, 2 false comes in raw.
    found = [(item, [answers(1, 0, 1, 1)] * 4)]
    assert score(DPG, found).overall == 50.0
    grandchild = [
        {**QUESTIONS[0], "id": "3", "parents": ["2"]},
        {**QUESTIONS[0], "id": "2", "parents": ["1"]},
        {**QUESTIONS[0], "id": "1", "parents": []},
    ]
    late = make_item("b", "plain", questions=grandchild)
    tiles = [answers(0, 1, 1)] * 4
    assert score(DPG, [(late, tiles)]).overall == 0.0
    assert score(DPG_OFFICIAL, [(late, tiles)]).overall == pytest.approx(100 / 3)


def test_dpg_officially_drops_the_prompt_that_lost_its_first_question() -> None:
    kept = make_item("b", "plain", questions=QUESTIONS)
    lost = make_item("a", "plain", questions=QUESTIONS[1:])
    tiles = [answers(1, 1, 1, 0)] * 4
    assert score(DPG_OFFICIAL, [(lost, tiles), (kept, tiles)]).overall == 75.0
    alone = make_item("a", "plain", questions=QUESTIONS[3:])
    assert score(DPG_OFFICIAL, [(alone, tiles), (kept, tiles)]).overall == 37.5


def test_dpg_without_questions_says_what_is_needed() -> None:
    with pytest.raises(BenchmarkError, match=r"dpg_bench.csv is needed for scoring"):
        score(DPG, [(make_item("a", "plain", questions=[]), [answers(1)] * 4)])


def test_unigenbench_is_the_mean_of_ten_dimensions() -> None:
    # Published row of FLUX.1-dev: gives 60.974, printed 60.97.
    row = {
        "Style": 85.00,
        "World Knowledge": 87.50,
        "Attribute": 67.20,
        "Action": 62.26,
        "Relationship": 66.88,
        "Logical Reasoning": 29.77,
        "Grammar": 62.30,
        "Compound": 45.75,
        "Entity Layout": 70.90,
        "Text Generation": 32.18,
    }
    sizes = (250, 158, 234, 263, 197, 109, 187, 194, 134, 87)
    whole = of_row(UNIGENBENCH["en"], row, dict(zip(row, sizes, strict=True)))
    assert whole == pytest.approx(60.974)


def test_unigenbench_macro_and_micro_differ() -> None:
    dimensions = ["Style", "Style", "Style", "Action"]
    item = make_item("a", "Art", dimensions=dimensions)
    found = [(item, [{"scores": [1, 1, 1, 0]}] * 4)]
    scores = score(UNIGENBENCH["en"], found, "official")
    assert (scores.metrics["macro"], scores.metrics["micro"]) == (50.0, 75.0)
    # Eight dimensions have no points at all, so strictly there is no mean of ten.
    assert score(UNIGENBENCH["en"], found).overall is None
    with pytest.raises(BenchmarkError, match="item a: expected 4 numbers under 'scores'"):
        score(UNIGENBENCH["en"], [(item, [{"scores": [1, 1, 1]}] * 4)])


def test_gedit_is_the_mean_over_groups_of_the_images_geometric_means() -> None:
    first = {"semantics": [8, 9], "quality": [7, 9]}
    second = {"semantics": [5, 10], "quality": [8, 8]}
    group = [make_item("a", "ps_human", intersection=True), make_item("b", "ps_human")]
    found = [(group[0], [first]), (group[1], [second])]
    scores = score(GEDIT_ENGLISH, found)
    assert scores.categories["overall"]["ps_human"] == pytest.approx(6.904, abs=5e-4)
    # Every other group holds one image of 8: ten eights and the group above.
    others = [
        (make_item(name, name), [{"semantics": [8, 8], "quality": [8, 9]}])
        for name in GROUPS
        if name != "ps_human"
    ]
    scores = score(GEDIT_ENGLISH, found + others)
    expected = ((sqrt(56) + sqrt(40)) / 2 + 80) / 11
    assert scores.overall == pytest.approx(expected)
    assert scores.metrics["semantics"] == pytest.approx((6.5 + 80) / 11)
    assert scores.categories["overall, intersection"] == {"ps_human": pytest.approx(sqrt(56))}


IMGEDIT_ROWS = {
    "UniWorld-V1": ((3.82, 3.64, 2.27, 3.47, 3.24, 2.99, 4.21, 2.96, 2.74), 3.26),
    "MagicBrush": ((2.84, 1.58, 1.51, 1.97, 1.58, 1.75, 2.38, 1.62, 1.22), 1.83),
}


@pytest.mark.parametrize("model", IMGEDIT_ROWS)
def test_imgedit_is_the_mean_of_nine_types(model: str) -> None:
    row, overall = IMGEDIT_ROWS[model]
    found = []
    for name, mean in zip(TYPES, row, strict=True):
        # A hundred edits of equal criteria, 1 or 2 or ..., whose mean is the published type.
        low = int(mean)
        high = round(100 * (mean - low))
        for n in range(100):
            values = {"scores": [low + (n < high)] * 3}
            found.append((make_item(f"{name}-{n}", name), [values]))
    scores = score(IMGEDIT, found)
    assert scores.categories["overall"] == {
        name: pytest.approx(mean) for name, mean in zip(TYPES, row, strict=True)
    }
    assert scores.overall is not None
    assert f"{scores.overall:.2f}" == f"{overall}"


def test_imgedit_official_rounding_rounds_edits_and_types() -> None:
    # 10/3 rounds to 3.33 and 11/3 to 3.67: types of 3.33 and, of two edits, 3.5.
    def of(name: str, *totals: tuple[int, int, int]) -> list[tuple[Item, list[dict[str, object]]]]:
        return [
            (make_item(f"{name}-{n}", name), [{"scores": list(each)}])
            for n, each in enumerate(totals)
        ]

    found = of("add", (3, 3, 4)) + of("style", (3, 3, 4), (3, 4, 4))
    found += [
        pair for name in TYPES if name not in ("add", "style") for pair in of(name, (5, 5, 5))
    ]
    scores = score(IMGEDIT, found)
    assert scores.metrics["official rounding"] == pytest.approx((3.33 + 3.5 + 7 * 5) / 9)
    assert scores.overall == pytest.approx((10 / 3 + 3.5 + 7 * 5) / 9)


def wise_prompts(sizes: dict[str, int]) -> list[Item]:
    return [make_item(f"{name}-{n}", name) for name, size in sizes.items() for n in range(size)]


@pytest.mark.parametrize(
    ("row", "overall"),
    [
        ((0.8975, 0.8167, 0.9333, 0.8167, 0.8667, 0.8750), "0.8760"),
        ((0.7800, 0.6333, 0.5667, 0.3750, 0.5500, 0.5083), "0.6280"),
    ],
)
def test_wise_verified_rows_of_the_leaderboard(row: tuple[float, ...], overall: str) -> None:
    sizes = {"Cultural": 400, "Time": 120, "Space": 120, "Biology": 120} | {
        "Physics": 120,
        "Chemistry": 120,
    }
    right = {
        name: round(size * rate) for (name, size), rate in zip(sizes.items(), row, strict=True)
    }
    found = [
        (item, [{"score": int(int(item.id.split("-")[1]) < right[item.category])}])
        for item in wise_prompts(sizes)
    ]
    scores = score(WISE_VERIFIED, found)
    assert scores.overall is not None
    assert f"{scores.overall:.4f}" == overall
    # Weights are the categories' sizes, so the whole is the plain mean.
    assert scores.overall == pytest.approx(sum(right.values()) / 1000)


def test_wise_legacy_weighs_three_judgements_and_six_categories() -> None:
    one = {"consistency": 2, "realism": 1, "aesthetic_quality": 0}
    items = [make_item(name, name) for name in LEGACY_SIZES]
    scores = score(WISE_LEGACY, [(item, [one]) for item in items])
    assert scores.overall == pytest.approx((0.7 * 2 + 0.2 * 1) / 2)
    # Only culture is perfect: .4 of the whole.
    none = {"consistency": 0, "realism": 0, "aesthetic_quality": 0}
    full = {"consistency": 2, "realism": 2, "aesthetic_quality": 2}
    found = [(item, [full if item.id == "Cultural" else none]) for item in items]
    assert score(WISE_LEGACY, found).overall == pytest.approx(0.4)
    with pytest.raises(BenchmarkError, match="item Time: 'realism' is 3"):
        score(WISE_LEGACY, [(items[1], [{**one, "realism": 3}])])


def test_wise_legacy_row_of_the_deepgen_paper() -> None:
    # .70 .71 .82 .62 .79 .65 by the official weights is .7136; the paper prints .72.
    row = (70, 71, 82, 62, 79, 65)
    full, none = ({"consistency": n, "realism": n, "aesthetic_quality": n} for n in (2, 0))
    found = [
        (make_item(f"{name}-{n}", name), [full if n < rate else none])
        for name, rate in zip(LEGACY_SIZES, row, strict=True)
        for n in range(100)
    ]
    assert score(WISE_LEGACY, found).overall == pytest.approx(0.7136, abs=5e-5)


def corebench_row(
    row: tuple[float, ...], names: tuple[str, ...]
) -> list[tuple[Item, list[dict[str, object]]]]:
    """One prompt a dimension with a thousand questions, of which so many are met."""
    return [
        (
            make_item(name, name, questions=["?"] * 1000),
            [{"answers": [int(n < round(10 * rate)) for n in range(1000)]}] * 4,
        )
        for name, rate in zip(names, row, strict=True)
    ]


def test_corebench_row_of_flux_2_dev() -> None:
    row = (89.5, 83.4, 72.7, 93.3, 48.4, 33.5, 53.4, 83.1, 62.3, 64.3, 62.1, 26.9)
    metrics = score(COREBENCH, corebench_row(row, DIMENSIONS)).metrics
    printed = {name: f"{value:.1f}" for name, value in metrics.items()}
    # .05 of rounding in each column: composition is 84.725 from these and 84.7 in the table.
    assert printed == {"composition": "84.7", "reasoning": "54.2", "overall": "64.4"}


@pytest.mark.parametrize(
    ("row", "mean"),
    [
        ((65.4, 59.7, 57.2, 88.3, 83.5, 84.1, 67.5, 58.7), 70.5),
        ((61.6, 52.0, 58.1, 89.9, 76.7, 82.4, 67.7, 47.5), 67.0),
        ((79.2, 51.4, 52.9, 89.1, 88.6, 80.1, 70.8, 42.8), 69.4),
        ((27.2, 15.9, 28.0, 25.4, 7.3, 30.8, 8.8, 4.6), 18.5),
        ((26.3, 18.0, 25.9, 66.8, 38.0, 59.7, 35.7, 18.1), 36.1),
        ((41.7, 32.2, 38.4, 78.3, 72.6, 66.3, 55.8, 32.6), 52.2),
        ((38.8, 28.7, 40.2, 79.1, 51.5, 65.7, 42.0, 19.8), 45.7),
        ((38.5, 29.0, 41.2, 79.5, 51.9, 66.9, 45.6, 19.6), 46.5),
    ],
)
def test_corebench_rows_of_the_deepgen_paper(row: tuple[float, ...], mean: float) -> None:
    main_metric = score(COREBENCH_REASONING, corebench_row(row, REASONING)).overall
    # Half a printed digit of the mean, and as much from the columns.
    assert main_metric == pytest.approx(mean, abs=0.1)


def test_corebench_leaves_unreadable_questions_out() -> None:
    item = make_item("R-LR-001", "R-LR", questions=["?"] * 4)
    found = [(item, [{"answers": [1, None, 0, 1]}] * 4)]
    assert score(COREBENCH, found).categories["overall"]["R-LR"] == pytest.approx(200 / 3)
    assert status_of([1] * 9 + [None]) == "scored"
    assert status_of([1] * 8 + [None]) == "unreadable"
    # Under the official rule the readable answers count, however few.
    record = ImageRecord(
        item=item.id, status="unreadable", values={"answers": [1, None, None, None]}
    )
    assert aggregate(COREBENCH, [item], [record]).categories["overall"] == {}
    official = aggregate(COREBENCH, [item], [record], "official")
    assert official.categories["overall"] == {"R-LR": 100.0}
    assert DIMENSIONS[:4] == COMPOSITION


@pytest.mark.parametrize(
    ("category", "judged", "expected", "accuracy"),
    [
        ("causal_reasoning", (5, 5, 5), 5.0, 100.0),
        ("causal_reasoning", (5, 4, 5), 4.5, 0.0),
        ("temporal_reasoning", (5, 1, 5), 1.5, 0.0),
        ("spatial_reasoning", (1, 1, 1), 1.0, 0.0),
        ("logical_reasoning", (1, 1, 0), 5.0, 100.0),
        ("logical_reasoning", (1, 0, 0), 1.1, 0.0),
        ("logical_reasoning", (0, 1, 0), 3.8, 0.0),
    ],
)
def test_rise_worked_examples(
    category: str, judged: tuple[int, int, int], expected: float, accuracy: float
) -> None:
    values = dict(zip(("consistency", "reasoning", "plausibility"), judged, strict=True))
    for benchmark in (RISE_2025, RISE_2026):
        metrics = score(benchmark, [(make_item("a", category), [values])]).metrics
        assert metrics["score"] == pytest.approx(expected)
        assert metrics["percent"] == pytest.approx(25 * (expected - 1))
        assert metrics["accuracy"] == accuracy


def test_rise_edits_in_which_nothing_has_to_stay() -> None:
    flags = {"consistency_free": True, "list_has_consistency_free": True}
    free = make_item("a", "causal_reasoning", **flags)
    bound = make_item("b", "causal_reasoning", list_has_consistency_free=True)
    perfect = {"reasoning": 5, "plausibility": 5}
    found = [(free, [perfect]), (bound, [{"consistency": 1, "reasoning": 5, "plausibility": 4}])]
    scores = score(RISE_2026, found)
    assert scores.metrics["accuracy"] == 50.0
    assert score(RISE_2025, found).metrics["accuracy"] == 0.0
    assert scores.metrics["score"] == pytest.approx((5 + (0.3 + 2.5 + 0.8)) / 2)
    # Officially every edit is scored as if nothing had to stay, once the flag exists.
    assert scores.metrics["official score"] == pytest.approx((5 + (4 + 0.8)) / 2)


RISE_SIZES = dict(zip(CATEGORIES, (85, 90, 100, 85), strict=True))


@pytest.mark.parametrize(
    ("right", "printed"),
    [
        # DeepGen SFT: 13 + 17 + 14 + 4 = 48 of 360.
        ((13, 17, 14, 4), ("15.3", "18.9", "14.0", "4.7", "13.3")),
        ((11, 13, 13, 2), ("12.9", "14.4", "13.0", "2.4", "10.8")),
        # A leaderboard row of scores in percent, here as accuracies: 57.6 62.2 62.0 21.2, 51.4.
        ((49, 56, 62, 18), ("57.6", "62.2", "62.0", "21.2", "51.4")),
    ],
)
def test_rise_overall_is_the_mean_over_all_edits(
    right: tuple[int, ...], printed: tuple[str, ...]
) -> None:
    wrong = {"consistency": 5, "reasoning": 2, "plausibility": 5}
    logical_wrong = {"consistency": 1, "reasoning": 0}
    found = []
    for (category, size), number in zip(RISE_SIZES.items(), right, strict=True):
        for n in range(size):
            bad = logical_wrong if category == "logical_reasoning" else wrong
            values = {"consistency": 5, "reasoning": 5, "plausibility": 5} if n < number else bad
            found.append((make_item(f"{category}-{n}", category), [values]))
    scores = score(RISE_2025, found)
    assert scores.overall is not None
    shown = [f"{scores.categories['accuracy'][name]:.1f}" for name in CATEGORIES]
    assert (*shown, f"{scores.overall:.1f}") == printed


def test_rise_unreadable_is_officially_wrong_and_without_score() -> None:
    items = [make_item(name, "causal_reasoning") for name in "ab"]
    perfect = {"consistency": 5, "reasoning": 5, "plausibility": 5}
    records = [
        ImageRecord(item="a", values=perfect),
        ImageRecord(item="b", status="unreadable"),
    ]
    official = aggregate(RISE_2026, items, records, "official")
    assert official.metrics["accuracy"] == 50.0
    assert official.metrics["score"] == 5.0
    strict = aggregate(RISE_2026, items, records)
    assert strict.metrics["accuracy"] == 100.0
    assert strict.overall is None
    assert aggregate(RISE_2026, items, records[:1], "official").overall is None


def test_uniredit_scores_and_halves() -> None:
    real, game = make_item("a", "pose adjustment"), make_item("b", "Maze")
    perfect = {"consistency": 5, "reasoning": 5, "quality": 5}
    middling = {"consistency": 3, "reasoning": 2, "quality": 4}
    scores = score(UNIREDIT, [(real, [perfect]), (game, [middling])])
    percent = 25 * (0.3 * 3 + 0.5 * 2 + 0.2 * 4 - 1)
    assert scores.categories["halves"] == {"real world": 100.0, "games": pytest.approx(percent)}
    assert scores.overall == pytest.approx((100 + percent) / 2)
    assert scores.metrics["accuracy"] == 50.0


def test_uniredit_row_of_omnigen2() -> None:
    # Published by dimension; every name has equally many edits, so sizes of dimensions weigh.
    # (2*55.47 + 2*58.27 + 3*51.44 + 2*50.70) / 9 = 53.69 and
    # (1*70.28 + 3*27.50 + 2*36.25 + 3*24.31) / 9 = 33.14; the overall is 43.41. Rounding
    # of the columns leaves .008.
    row = (55.47, 58.27, 51.44, 50.70, 70.28, 27.50, 36.25, 24.31)
    means = dict(zip(UNIREDIT_DIMENSIONS, row, strict=True))
    halves = {
        half: sum(means[each] * len(UNIREDIT_DIMENSIONS[each]) for each in dimensions) / 9
        for half, dimensions in (
            ("real world", list(means)[:4]),
            ("games", list(means)[4:]),
        )
    }
    assert halves == {"real world": pytest.approx(53.69, abs=8e-3)} | {
        "games": pytest.approx(33.14, abs=8e-3)
    }
    by_name = {
        name: means[dimension] for dimension, names in UNIREDIT_DIMENSIONS.items() for name in names
    }
    whole = of_row(UNIREDIT, by_name, dict.fromkeys(by_name, 150))
    assert whole == pytest.approx(43.41, abs=6e-3)
    assert whole == pytest.approx(of_row(UNIREDIT, halves, {"real world": 1, "games": 1}, 1))


def test_cvtg_counts_words_and_their_closest_reading() -> None:
    words = asdict(score_words(["new", "york", "new"], ["new yorl"]))
    item = make_item("CVTG/2/0", "CVTG/2", words=["new", "york", "new"])
    metrics = score(CVTG, [(item, [{**words, "clip_score": 0.8}])]).metrics
    assert metrics["word accuracy"] == pytest.approx(2 / 3)
    assert metrics["ned"] == pytest.approx((1 + 0.75 + 1) / 3, abs=1e-5)
    assert metrics["clip score"] == 0.8
    assert metrics["extra words"] == 1


def test_cvtg_pools_words_over_images() -> None:
    first = make_item("a", "CVTG/2", words=["one"])
    second = make_item("b", "CVTG/5", words=["a", "b", "c"])
    found = [
        (first, [asdict(score_words(["one"], ["one"]))]),
        (second, [asdict(score_words(["a", "b", "c"], []))]),
    ]
    metrics = score(CVTG, found).metrics
    assert metrics["word accuracy"] == 0.25
    assert metrics["ned"] == pytest.approx(0.25, abs=1e-5)
    assert metrics["clip score"] is None


def test_cvtg_failures_are_failed_and_only_officially_all_wrong() -> None:
    items = [make_item(name, "CVTG/2", words=["one"]) for name in "abc"]
    records = [
        ImageRecord(item="a", values=asdict(score_words(["one"], ["one"]))),
        ImageRecord(item="b", status="error", reason="OCR raised"),
    ]
    strict = aggregate(CVTG, items, records)
    assert (strict.metrics["word accuracy"], strict.overall) == (1.0, None)
    assert aggregate(CVTG, items, records, "official").overall == 0.5
    assert aggregate(CVTG, items, records, "pessimistic").overall == pytest.approx(1 / 3)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_lowest_values_are_valid_and_score_lowest(name: str) -> None:
    benchmark: Benchmark = BENCHMARKS[name]
    item = make_item(
        "x",
        {
            "wise": "Time",
            "gedit": "ps_human",
            "uniredit": "Maze",
            "minibench": "one object" if name.endswith("0") else "counting",
        }.get(name.split("/")[0], "any"),
        questions=QUESTIONS,
        dimensions=["Style"],
        words=["one"],
        kind="count",
    )
    scores = aggregate(benchmark, [item], [], "pessimistic")
    (lowest,) = scores.categories[benchmark.metrics[0].name].values()
    assert lowest == {"imgedit": 1}.get(name, 0)
    assert scores.coverage == 0
    assert scores.counts["missing"] == benchmark.generation["paper"].images_per_item
