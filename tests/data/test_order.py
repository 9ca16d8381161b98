from __future__ import annotations

import numpy as np
import pytest

from deepgen.data.order import EpochOrder, Stream, plan_of
from deepgen.data.randomness import key_of, permuted, sample_generator

RECORDED = [
    [14, 8],
    [2, 17],
    [9, 19],
    [5, 11],
    [6, 18],
    [15, 0],
    [13, 1],
    [4, 10],
    [12, 3],
    [16, 7],
]
"""Rows of the first ten updates of the small stream below; computed once, by this code."""


def stream(
    count: int, *, buckets: int = 5, seed: int = 3, size: int = 4, batches: int = 6
) -> Stream:
    rng = np.random.default_rng(0)
    # Buckets of very different sizes, one with a single sample.
    numbers = np.minimum(rng.geometric(0.5, count), buckets).astype(np.int32) - 1
    numbers[0] = buckets
    order = EpochOrder(np.arange(count), seed=seed, name="t2i")
    return Stream(order, numbers, microbatch_size=size, microbatches=batches)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 16, 17, 1000])
def test_a_permutation_hits_everything_once(size: int) -> None:
    assert sorted(permuted(np.arange(size), size, key_of(7))) == list(range(size))


def test_a_permutation_can_be_asked_anywhere_without_the_rest() -> None:
    whole = permuted(np.arange(1000), 1000, key_of(7))
    assert permuted(np.array([917]), 1000, key_of(7)) == whole[917]
    assert permuted(np.array([3]), 10**12, key_of(7))[0] < 10**12


def test_a_permutation_mixes() -> None:
    size = 10_000
    moved = permuted(np.arange(size), size, key_of(7))
    assert abs(np.corrcoef(np.arange(size), moved)[0, 1]) < 0.05
    assert abs(np.corrcoef(moved[:-1], moved[1:])[0, 1]) < 0.05
    other = permuted(np.arange(size), size, key_of(8))
    assert abs(np.corrcoef(other, moved)[0, 1]) < 0.05


def test_every_sample_occurs_once_per_epoch() -> None:
    order = EpochOrder(np.arange(100, 137), seed=1, name="t2i")
    rows, epochs = order.between(0, 3 * 37)
    for epoch in range(3):
        assert sorted(rows[epochs == epoch]) == list(range(100, 137))
    assert rows[:37].tolist() != rows[37:74].tolist()


@pytest.mark.parametrize("first_window", [0, 1000])
@pytest.mark.parametrize("count", [5, 23, 24, 25, 100, 997])
def test_nothing_is_lost_or_repeated_by_bucketing(count: int, first_window: int) -> None:
    """Over whole windows, the samples are exactly those of the order, whatever the buckets."""
    found = stream(count)
    first, steps = first_window * found.window_steps, 3 * found.window_steps
    occurrences = [
        each for step in range(first, first + steps) for batch in found.step(step) for each in batch
    ]
    assert len(occurrences) == steps * found.samples_per_step
    draws = first * found.samples_per_step
    rows, epochs = found.order.between(draws, draws + len(occurrences))
    drawn = sorted(zip(rows.tolist(), epochs.tolist(), strict=True))
    assert sorted((each.row, each.epoch) for each in occurrences) == drawn


def test_the_samples_of_a_small_data_set_occur_evenly() -> None:
    found = stream(23, size=2, batches=2)
    rows = [v.row for step in range(23) for batch in found.step(step) for v in batch]
    counts = np.bincount(rows, minlength=23)
    assert (counts.min(), counts.max()) == (3, 5) or counts.min() == counts.max()


def test_micro_batches_share_a_bucket_except_for_what_is_left_of_each() -> None:
    found = stream(2000)
    steps = found.window_steps
    batches = [batch for step in range(steps) for batch in found.step(step)]
    mixed = sum(len({found.buckets[each.row] for each in batch}) > 1 for batch in batches)
    # At most size - 1 samples are left of each of six buckets.
    assert mixed <= 6 * 3 / 4 + 1
    assert mixed < 0.05 * len(batches)


def test_buckets_do_not_come_in_blocks() -> None:
    found = stream(2000)
    firsts = [found.buckets[found.step(step)[0][0].row] for step in range(found.window_steps)]
    halves = np.array_split(np.array(firsts), 2)
    assert abs(halves[0].mean() - halves[1].mean()) < 0.5


def test_a_step_can_be_computed_without_those_before() -> None:
    assert stream(997).step(12_345) == stream(997).step(12_345)
    fresh, used = stream(997), stream(997)
    for step in range(0, 200, 7):
        used.step(step)
    assert fresh.step(150) == used.step(150)


@pytest.mark.parametrize("world_size", [1, 2, 3, 6])
def test_the_number_of_processes_changes_who_works_but_not_on_what(world_size: int) -> None:
    streams = [stream(100, batches=6), stream(50, batches=12)]
    alone = [list(plan.occurrences) for plan in plan_of(streams, 17)]
    dealt = [
        [list(plan.occurrences) for plan in plan_of(streams, 17, rank=rank, world_size=world_size)]
        for rank in range(world_size)
    ]
    shares = (6 // world_size, 12 // world_size)
    first = [batch for turn in zip(*(d[: shares[0]] for d in dealt), strict=True) for batch in turn]
    second = [
        batch for turn in zip(*(d[shares[0] :] for d in dealt), strict=True) for batch in turn
    ]
    assert first + second == alone


def test_a_count_that_cannot_be_divided_loses_nothing() -> None:
    streams = [stream(100, batches=5)]
    dealt = [plan_of(streams, 2, rank=rank, world_size=3) for rank in range(3)]
    assert [len(plans) for plans in dealt] == [2, 2, 1]
    occurrences = [each for plans in dealt for plan in plans for each in plan.occurrences]
    assert sorted(v.row for v in occurrences) == sorted(
        v.row for plan in plan_of(streams, 2) for v in plan.occurrences
    )


def test_seeds_and_tasks_have_their_own_orders() -> None:
    orders = {
        tuple(EpochOrder(np.arange(50), seed=seed, name=name).between(0, 50)[0].tolist())
        for seed in (0, 1)
        for name in ("t2i", "edit")
    }
    assert len(orders) == 4


def test_the_order_is_the_same_in_every_release() -> None:
    """A run resumed under a newer version must get the same samples."""
    order = EpochOrder(np.arange(20), seed=1, name="t2i")
    buckets = np.arange(20, dtype=np.int32) % 3
    found = Stream(order, buckets, microbatch_size=2, microbatches=1)
    assert [[each.row for each in found.step(step)[0]] for step in range(10)] == RECORDED


def test_random_numbers_of_a_sample_depend_on_nothing_but_its_key() -> None:
    first = sample_generator(1, 2**64 - 1, 5, "timestep").random(3)
    assert sample_generator(1, 2**64 - 1, 5, "timestep").random(3).tolist() == first.tolist()
    others = [
        sample_generator(2, 2**64 - 1, 5, "timestep"),
        sample_generator(1, 2**64 - 2, 5, "timestep"),
        sample_generator(1, 2**64 - 1, 6, "timestep"),
        sample_generator(1, 2**64 - 1, 5, "noise"),
    ]
    assert len({other.random(3).tobytes() for other in others} | {first.tobytes()}) == 5


def test_impossible_plans_are_refused() -> None:
    with pytest.raises(ValueError, match="rank 2 of 2"):
        plan_of([stream(10)], 0, rank=2, world_size=2)
    with pytest.raises(ValueError, match="steps count from 0"):
        plan_of([stream(10)], -1)
    with pytest.raises(ValueError, match="no samples for edit"):
        EpochOrder(np.arange(0), seed=0, name="edit")
