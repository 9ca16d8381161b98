"""Advantages: how much better an image is than the others of its prompt.

Reward-wise normalisation (GDPO, arXiv 2601.05242; MR-GRPO in the DeepGen paper, section 4.3), and
for comparison GRPO (Shao et al., arXiv 2402.03300, section 4.1), Flow-GRPO's with a global standard
deviation (arXiv 2505.05470) and REINFORCE++ (arXiv 2501.03262).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from deepgen.config.rl import AdvantageConfig

Rewards = Float[Tensor, "groups images rewards"]
ByImage = Float[Tensor, "groups images"]

EPSILON = 1e-4
"""Added to standard deviations that are divided by."""

FLAT = 1e-6
"""Standard deviation of a reward below which a group ties: it is rounding, which divided by
EPSILON would become advantages of 0.01."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Advantages:
    """Those of all images of an iteration, on all processes."""

    values: ByImage
    """0 where a group has no reward."""
    is_used: Bool[Tensor, " groups"]
    """Groups with at least one reward; the others are no part of the loss."""
    spread: float
    """Standard deviation over the batch that was divided by, before its floor."""
    is_floored: bool
    """Whether the floor was larger."""


def estimate(
    rewards: Rewards,
    present: Bool[Tensor, "groups rewards"],
    weights: Float[Tensor, "groups rewards"],
    config: AdvantageConfig | None = None,
    *,
    is_unbiased: bool = False,
    epsilon: float = EPSILON,
) -> Advantages:
    """Advantages of all images of an iteration; ``gdpo`` normalises every reward by itself::

        z = (reward - mean of the group) / (std of the group + epsilon), 0 where the group ties
        u = sum over rewards of weight * z
        A = (u - mean of the batch) / (max(std of the batch, floor) + epsilon), clamped

    so that a reward with a wide range cannot drown one with a narrow range. In the others the
    weighted sum of the rewards takes the place of u. A missing reward contributes nothing, and the
    weights of those that are there stay: a group without its main reward counts little.

    Args:
        rewards: In float64; of missing ones any number.
        present: Which of them each group has.
        weights: Of each reward in each group, by its category; 0 for those not measured.
        config: Estimator, floor and clamp.
        is_unbiased: Divide by count - 1 in standard deviations, without floor, clamp and ties, as
            the published code does.
        epsilon: Added to standard deviations.
    """
    config = config or AdvantageConfig()
    factors = torch.where(present, weights, 0.0)
    is_used = (factors > 0).any(dim=1)
    # Of missing ones any number, also NaN, which 0 times would stay.
    rewards = torch.where(present[:, None], rewards, 0.0)
    correction = int(is_unbiased)
    if config.estimator == "gdpo":
        centred = rewards - rewards.mean(dim=1, keepdim=True)
        spread = rewards.std(dim=1, correction=correction, keepdim=True)
        scores = centred / (spread + epsilon)
        if not is_unbiased:
            scores = torch.where(spread < FLAT, 0.0, scores)
    else:
        scores = rewards
    totals = (factors[:, None] * scores).sum(dim=2)
    batch = totals[is_used]
    if not len(batch):
        return Advantages(
            values=torch.zeros_like(totals), is_used=is_used, spread=0.0, is_floored=False
        )
    centre: Tensor = totals.mean(dim=1, keepdim=True)
    if config.estimator == "grpo":
        over = totals.std(dim=1, correction=correction, keepdim=True)
        if not is_unbiased:
            totals = torch.where(over < FLAT, centre, totals)
    else:
        over = batch.std(correction=correction)
        if config.estimator != "grpo_global_std":
            centre = batch.mean()
    floor = 0.0 if is_unbiased or config.estimator != "gdpo" else config.floor
    values = (totals - centre) / (over.clamp(min=floor) + epsilon)
    if not is_unbiased:
        values = values.clamp(-config.clip, config.clip)
    spread_of_batch = float(batch.std(correction=correction))
    return Advantages(
        values=torch.where(is_used[:, None], values, 0.0),
        is_used=is_used,
        spread=spread_of_batch,
        is_floored=spread_of_batch < floor,
    )
