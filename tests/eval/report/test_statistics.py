from __future__ import annotations

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest

from deepgen.errors import BenchmarkError
from deepgen.eval.benchmark import ImageRecord, Item
from deepgen.eval.benchmarks.geneval.benchmark import GENEVAL, TAGS
from deepgen.eval.benchmarks.imgedit.benchmark import IMGEDIT, TYPES
from deepgen.eval.benchmarks.rise.benchmark import CATEGORIES, RISE_2025
from deepgen.eval.report.statistics import bootstrap, compare
from tests.eval.records import make_item

Records = list[ImageRecord]


UNBOUNDED = replace(GENEVAL, metrics=tuple(replace(m, bounds=None) for m in GENEVAL.metrics))
"""Its metrics have no bounds, so their intervals come from resampling only."""


def run_of(rate: float, prompts: int = 60, seed: int = 0) -> tuple[list[Item], Records]:
    """Prompts of GenEval whose four images are right or wrong together."""
    rng = np.random.default_rng(seed)
    items = [make_item(f"{tag}-{n}", tag) for tag in TAGS for n in range(prompts)]
    right = rng.random(len(items)) < rate
    records = [
        ImageRecord(item=item.id, image_index=image_index, values={"correct": bool(good)})
        for item, good in zip(items, right, strict=True)
        for image_index in range(4)
    ]
    return items, records


def test_the_interval_has_the_width_of_a_rate_over_prompts_and_not_over_images() -> None:
    items, records = run_of(0.8)
    interval = bootstrap(GENEVAL, items, records)["images"]
    # Within a tag the rates differ a little, so the strata narrow it: allow a tenth.
    spread = sqrt(interval.value * (1 - interval.value) / len(items))
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * spread, rel=0.1)
    assert interval.low < interval.value < interval.high


def test_categories_keep_their_sizes_in_every_resample() -> None:
    # All of one tag are as good as can be and all of the others as bad.
    items = [make_item(f"{tag}-{n}", tag) for tag in TAGS for n in range(5)]
    records = [
        ImageRecord(
            item=item.id, image_index=image_index, values={"correct": item.category == "colors"}
        )
        for item in items
        for image_index in range(4)
    ]
    interval = bootstrap(UNBOUNDED, items, records)["accuracy"]
    assert interval.low == interval.high == interval.value == pytest.approx(1 / 6)
    # Pooled over categories of different size, too: one prompt of colour and five of all others.
    few = [item for item in items if item.category != "colors" or item.id == "colors-0"]
    kept = [record for record in records if record.item in {item.id for item in few}]
    pooled = bootstrap(UNBOUNDED, few, kept)["images"]
    assert pooled.low == pooled.high == pytest.approx(1 / 26)


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_prompts_that_all_agree_leave_room_for_others(rate: float) -> None:
    items, records = run_of(rate, prompts=60)
    for name, interval in bootstrap(GENEVAL, items, records).items():
        assert interval.value == rate, name
        # Wilson's interval around 0 of n is 0 to z^2 / (n + z^2); images of a prompt count once.
        width = 1.96**2 / (360 + 1.96**2)
        assert interval.high - interval.low == pytest.approx(width, rel=1e-3), name
        assert (interval.low if rate == 0 else interval.high) == rate, name


def test_the_room_for_other_prompts_is_that_of_the_smallest_category_too() -> None:
    # Means of categories: one with few prompts says little, whatever the others have.
    items, records = run_of(0.0, prompts=60)
    few = [item for item in items if item.category != "colors" or item.id == "colors-0"]
    kept = [record for record in records if record.item in {item.id for item in few}]
    interval = bootstrap(GENEVAL, few, kept)
    count = 36 / (5 / 60 + 1)
    assert interval["accuracy"].high == pytest.approx(1.96**2 / (count + 1.96**2), rel=1e-3)
    assert interval["images"].high == pytest.approx(1.96**2 / (301 + 1.96**2), rel=1e-3)


def test_room_is_on_the_scale_of_the_metric() -> None:
    items = [make_item(f"{type_}-{n}", type_) for type_ in TYPES for n in range(4)]
    records = [ImageRecord(item=item.id, values={"scores": [3, 3, 3]}) for item in items]
    interval = bootstrap(IMGEDIT, items, records)["overall"]
    assert interval.value == 3
    # Half of the way from 1 to 5, as of 36 coins of which 18 show heads.
    assert interval.low == pytest.approx(2.379, abs=0.002)
    assert interval.high == pytest.approx(3.621, abs=0.002)


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
        ImageRecord(item=each.item, image_index=each.image_index, values={"correct": True})
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
        ImageRecord(item=each.item, image_index=each.image_index, status="error")
        if each.item == failed
        else each
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
