"""Advantages: the recorded ones, a brute force, and what must hold for any rewards."""

from __future__ import annotations

import json
import math
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from deepgen.config.rl import AdvantageConfig, Estimator
from deepgen.rl.advantages import Advantages, estimate
from tests.shared import error, golden

ESTIMATORS: tuple[Estimator, ...] = ("gdpo", "grpo", "grpo_global_std", "reinforcepp")


@cache
def recorded() -> dict[str, Any]:
    return dict(np.load(golden("rl/advantages.npz")))


def compute(
    rewards: Tensor,
    weights: Tensor | None = None,
    present: Tensor | None = None,
    estimator: Estimator = "gdpo",
    **options: Any,
) -> Advantages:
    groups, _, kinds = rewards.shape
    return estimate(
        rewards,
        torch.ones(groups, kinds, dtype=torch.bool) if present is None else present,
        torch.ones(groups, kinds, dtype=torch.float64) if weights is None else weights,
        AdvantageConfig(estimator=estimator, **options.pop("config", {})),
        **options,
    )


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("case", ["single", "three", "constant_group", "weighted"])
def test_advantages_are_the_recorded_ones(case: str, estimator: Estimator) -> None:
    told = json.loads(golden("rl/advantage_cases.json").read_text())[case]
    shape = (told["num_prompts"], told["rollout_n"], told["num_rewards"])
    rewards = torch.from_numpy(recorded()[f"{case}.rewards_per_func"]).double().view(shape)
    weights = torch.ones(shape[0], shape[2], dtype=torch.float64)
    if told["per_sample_weights"]:
        for row, own in enumerate(told["per_sample_weights"]):
            names = told["reward_names"]
            weights[row] = torch.tensor([own.get(name, 0.0) for name in names])
    found = compute(rewards, weights, estimator=estimator, is_unbiased=True)
    expected = recorded()[f"{case}.{estimator}"]
    assert error(found.values.flatten(), expected) <= 2e-5


def brute_force(rewards: Tensor, weights: Tensor, present: Tensor) -> list[list[float]]:
    """Section 4.3 of the paper, with plain numbers."""
    totals = []
    for values, own, there in zip(
        rewards.tolist(), weights.tolist(), present.tolist(), strict=True
    ):
        total = [0.0] * len(values)
        for kind, weight in enumerate(own):
            column = [row[kind] for row in values]
            mean = sum(column) / len(column)
            spread = math.sqrt(sum((x - mean) ** 2 for x in column) / len(column))
            if there[kind] and weight and spread >= 1e-6:
                total = [
                    t + weight * (x - mean) / (spread + 1e-4)
                    for t, x in zip(total, column, strict=True)
                ]
        totals.append(total)
    used = [
        any(w and p for w, p in zip(*row, strict=True))
        for row in zip(weights.tolist(), present.tolist(), strict=True)
    ]
    every = [x for total, is_used in zip(totals, used, strict=True) for x in total if is_used]
    mean = sum(every) / len(every)
    spread = max(math.sqrt(sum((x - mean) ** 2 for x in every) / len(every)), 0.1)
    return [
        [max(-5, min(5, (x - mean) / (spread + 1e-4))) if is_used else 0.0 for x in total]
        for total, is_used in zip(totals, used, strict=True)
    ]


def test_reward_wise_advantages_equal_a_brute_force() -> None:
    rewards = torch.rand(6, 8, 3, dtype=torch.float64)
    rewards[2, :, 1] = 0.5
    weights = torch.tensor([[0.7, 0.3, 0], [0.2, 0.1, 0.7]], dtype=torch.float64).repeat(3, 1)
    present = torch.rand(6, 3) < 0.7
    present[4] = False
    found = compute(rewards, weights, present)
    expected = torch.tensor(brute_force(rewards, weights, present), dtype=torch.float64)
    torch.testing.assert_close(found.values, expected, rtol=0, atol=1e-10)
    assert found.values[:4].abs().max() > 1


def test_with_one_reward_gdpo_is_grpo() -> None:
    rewards = torch.rand(5, 8, 1, dtype=torch.float64)
    one = compute(rewards, epsilon=0.0).values
    torch.testing.assert_close(
        one, compute(rewards, estimator="grpo", epsilon=0.0).values, rtol=0, atol=1e-12
    )
    # A flat group has no share in the batch's spread.
    rewards[1] = 0.25
    ratio = compute(rewards, epsilon=0.0).values[0] / one[0]
    torch.testing.assert_close(ratio, torch.full_like(ratio, 1 / math.sqrt(1 - 1 / 5)))


def test_scale_and_offset_of_a_reward_change_nothing_and_order_only_the_order() -> None:
    rewards = torch.rand(4, 6, 2, dtype=torch.float64)
    weights = torch.tensor([[0.2, 0.8]], dtype=torch.float64).repeat(4, 1)
    base = compute(rewards, weights, epsilon=0.0).values
    moved = rewards * torch.tensor([1e-3, 50.0]) + torch.tensor([7.0, -2.0])
    torch.testing.assert_close(compute(moved, weights, epsilon=0.0).values, base)
    torch.testing.assert_close(compute(rewards, 3 * weights, epsilon=0.0).values, base)
    order = torch.randperm(6)
    torch.testing.assert_close(
        compute(rewards[:, order], weights).values[:, order.argsort()],
        compute(rewards, weights).values,
    )
    # What plain GRPO does not have.
    plain = compute(rewards, weights, estimator="grpo", epsilon=0.0).values
    assert not torch.allclose(
        compute(moved, weights, estimator="grpo", epsilon=0.0).values, plain, atol=0.1
    )


def test_a_missing_reward_changes_its_group_alone_but_for_the_common_scale() -> None:
    rewards = torch.rand(4, 8, 2, dtype=torch.float64)
    present = torch.ones(4, 2, dtype=torch.bool)
    full = compute(rewards)
    present[1, 0] = False
    rewards[1, :, 0] = math.nan
    part = compute(rewards, present=present)
    others = [0, 2, 3]
    ratio = part.values[others] / full.values[others]
    torch.testing.assert_close(ratio, ratio[0, 0].expand_as(ratio))
    assert part.values.isfinite().all()
    # The remaining weight of the group is not scaled up: it is half as far from 0.
    alone = (rewards[1, :, 1] - rewards[1, :, 1].mean()) / (
        rewards[1, :, 1].std(correction=0) + 1e-4
    )
    torch.testing.assert_close(part.values[1], alone / (part.spread + 1e-4))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_group_without_rewards_is_0_and_leaves_the_batch(estimator: Estimator) -> None:
    rewards = torch.rand(3, 4, 2, dtype=torch.float64)
    present = torch.tensor([[True, True], [False, False], [True, False]])
    found = compute(rewards, present=present, estimator=estimator)
    assert found.is_used.tolist() == [True, False, True]
    assert not found.values[1].any()
    without = compute(rewards[[0, 2]], present=present[[0, 2]], estimator=estimator)
    torch.testing.assert_close(found.values[[0, 2]], without.values)
    nothing = compute(rewards, present=torch.zeros(3, 2, dtype=torch.bool), estimator=estimator)
    assert not nothing.values.any()
    assert not nothing.is_used.any()


def test_nearly_flat_batches_are_not_blown_up_and_outliers_are_clamped() -> None:
    rewards = torch.full((40, 8, 1), 0.5, dtype=torch.float64)
    rewards[0, 0, 0] += 0.2
    # Rounding is no reward.
    rewards[1, 0, 0] += 1e-8
    found = compute(rewards, torch.full((40, 1), 0.05, dtype=torch.float64))
    assert found.is_floored
    assert found.values.abs().max() < 2
    assert found.values[1].abs().max() < 1e-12
    assert compute(rewards).values.max() == 5
