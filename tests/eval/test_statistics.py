from __future__ import annotations

from math import sqrt

import numpy as np
import pytest

from deepgen.errors import BenchmarkError
from deepgen.eval.benchmark import ImageRecord, Item
from deepgen.eval.benchmarks.geneval import GENEVAL, TAGS
from deepgen.eval.benchmarks.rise import CATEGORIES, RISE_2025
from deepgen.eval.statistics import bootstrap, compare
from tests.eval.records import make_item

Records = list[ImageRecord]


def run_of(rate: float, prompts: int = 60, seed: int = 0) -> tuple[list[Item], Records]:
    """Prompts of GenEval whose four pictures are right or wrong together."""
    rng = np.random.default_rng(seed)
    items = [make_item(f"{tag}-{n}", tag) for tag in TAGS for n in range(prompts)]
    right = rng.random(len(items)) < rate
    records = [
        ImageRecord(item=item.id, copy=copy, values={"correct": bool(good)})
        for item, good in zip(items, right, strict=True)
        for copy in range(4)
    ]
    return items, records


def test_the_interval_has_the_width_of_a_rate_over_prompts_and_not_over_pictures() -> None:
    items, records = run_of(0.8)
    interval = bootstrap(GENEVAL, items, records)["images"]
    # Within a tag the rates differ a little, so the strata narrow it: allow a tenth.
    spread = sqrt(interval.value * (1 - interval.value) / len(items))
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * spread, rel=0.1)
    assert interval.low < interval.value < interval.high


def test_categories_keep_their_sizes_in_every_resample() -> None:
    # All of one tag are right and all of the others wrong: nothing is left to chance.
    items = [make_item(f"{tag}-{n}", tag) for tag in TAGS for n in range(5)]
    records = [
        ImageRecord(item=item.id, copy=copy, values={"correct": item.category == "colors"})
        for item in items
        for copy in range(4)
    ]
    interval = bootstrap(GENEVAL, items, records)["accuracy"]
    assert interval.low == interval.high == interval.value == pytest.approx(1 / 6)
    # Pooled over categories of different size, too: one prompt of colour and five of all others.
    few = [item for item in items if item.category != "colors" or item.id == "colors-0"]
    kept = [record for record in records if record.item in {item.id for item in few}]
    pooled = bootstrap(GENEVAL, few, kept)["images"]
    assert pooled.low == pooled.high == pytest.approx(1 / 26)


def test_the_same_seed_gives_the_same_interval_in_any_order_of_records() -> None:
    items, records = run_of(0.5, prompts=20)
    again = bootstrap(GENEVAL, items, records[::-1])
    assert bootstrap(GENEVAL, items, records) == again
    assert bootstrap(GENEVAL, items, records, seed=1) != again


def test_a_paired_difference_is_surer_than_two_intervals() -> None:
    items, first = run_of(0.5)
    # Six prompts more are right; all else is the same.
    changed = {item.id for item in items[:60:5]}
    second = [
        ImageRecord(item=each.item, copy=each.copy, values={"correct": True})
        if each.item in changed
        else each
        for each in first
    ]
    difference = compare(GENEVAL, items, first, second)["images"]
    single = bootstrap(GENEVAL, items, first)["images"]
    assert difference.low > 0
    assert difference.p_value < 0.05
    assert difference.high - difference.low < (single.high - single.low) / 2
    backwards = compare(GENEVAL, items, second, first)["images"]
    assert backwards.value == -difference.value
    assert backwards.high == pytest.approx(-difference.low)


def test_equal_runs_do_not_differ() -> None:
    items, records = run_of(0.5, prompts=10)
    difference = compare(GENEVAL, items, records, records)["accuracy"]
    assert (difference.value, difference.low, difference.high) == (0, 0, 0)
    assert difference.p_value == 1.0


def test_prompts_that_failed_in_one_run_are_left_out_of_both() -> None:
    items, first = run_of(0.5, prompts=10)
    failed = items[0].id
    second = [
        ImageRecord(item=each.item, copy=each.copy, status="error") if each.item == failed else each
        for each in first
    ]
    difference = compare(GENEVAL, items, first, second)["images"]
    assert (difference.items, difference.value) == (59, 0)
    with pytest.raises(BenchmarkError, match="no scored prompt in common"):
        compare(GENEVAL, items, first, [])


def test_sft_and_rl_on_rise_are_one_and_a_half_errors_apart() -> None:
    # 48 against 39 of 360: the standard error of one such rate is 1.8 points.
    sizes, right = (85, 90, 100, 85), (13, 17, 14, 4)
    items, records = [], []
    for category, size, good in zip(CATEGORIES, sizes, right, strict=True):
        for n in range(size):
            item = make_item(f"{category}-{n}", category)
            level = 5 if n < good else 1
            values = {"consistency": level, "reasoning": level, "plausibility": level}
            if category == "logical_reasoning":
                values = {"consistency": int(n < good), "reasoning": int(n < good)}
            items.append(item)
            records.append(ImageRecord(item=item.id, values=values))
    interval = bootstrap(RISE_2025, items, records)["accuracy"]
    assert (interval.high - interval.low) / (2 * 1.96) == pytest.approx(1.8, abs=0.15)
