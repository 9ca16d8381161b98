"""What is watched while a policy learns: rewards, their spread, missing ones, diversity."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from deepgen.rl.advantages import FLAT, Advantages, ByImage
from deepgen.rl.rewards.base import Rewards
from deepgen.rl.rewards.pool import RewardPool
from deepgen.rl.rollout import Group

Measures = dict[str, tuple[float, int]]
"""Sum and count by name; both are added up over processes and steps, and divided."""


def measures(
    rewards: Sequence[Rewards],
    groups: Sequence[Group],
    advantages: ByImage,
    every: Advantages,
    pool: RewardPool,
) -> Measures:
    """Measures of an iteration, of this process's groups.

    ``reward/NAME`` is the mean, ``reward_std/NAME`` the mean standard deviation inside groups,
    ``flat/NAME`` the fraction of groups that tie, ``missing/NAME`` that of groups without it, and
    ``diversity`` the mean standard deviation of pixels inside groups, from 0 to 1.

    Args:
        rewards: Of every group.
        groups: With their images.
        advantages: Of this process's images.
        every: Those of all processes.
        pool: Counts calls, and what rewards measure besides.
    """
    found: Measures = {}

    def add(name: str, value: float, count: int = 1) -> None:
        total, known = found.get(name, (0.0, 0))
        found[name] = (total + value, known + count)

    for group, own in zip(groups, rewards, strict=True):
        for name, reward in own.items():
            add(f"missing/{name}", float(reward.values is None))
            if reward.values is None:
                continue
            values = torch.tensor(reward.values, dtype=torch.float64)
            spread = float(values.std(correction=0))
            add(f"reward/{name}", float(values.sum()), len(values))
            add(f"reward/{name}/{group.key.prompt.category}", float(values.sum()), len(values))
            add(f"reward_std/{name}", spread)
            add(f"flat/{name}", float(spread < FLAT))
        add("diversity", _pixel_spread(group))
    add("advantage/size", float(advantages.abs().sum()), advantages.numel())
    add("advantage/square", float(advantages.square().sum()), advantages.numel())
    add("advantage/batch_std", every.spread)
    add("advantage/floored", float(every.is_floored))
    for name, counts in pool.take_counts().items():
        add(f"calls/{name}", float(counts.calls))
        add(f"retries/{name}", float(counts.retries))
        add(f"timeouts/{name}", float(counts.timeouts))
        add(f"errors/{name}", float(counts.errors))
        add(f"unreadable/{name}", float(counts.unreadable))
        for which, seconds in counts.latency().items():
            add(f"latency/{name}/{which}", seconds)
    for name, reward_source in pool.rewards.items():
        for what, value in reward_source.take_metrics().items():
            add(f"{name}/{what}", value)
    return found


def _pixel_spread(group: Group) -> float:
    """Mean over pixels of the standard deviation over a group's images."""
    pixels = np.stack([np.asarray(image.convert("L"), np.float32) for image in group.images]) / 255
    return float(pixels.std(axis=0).mean())
