"""An iteration of reinforcement learning: what its updates learn from, as micro-batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from deepgen.config.rl import RlConfig
from deepgen.data.randomness import sample_generator
from deepgen.rl.advantages import ByImage
from deepgen.rl.grpo import PolicyBatch, TransitionBatch
from deepgen.rl.nft import NoisedBatch
from deepgen.rl.rewards.pool import PendingGroup
from deepgen.rl.rollout import Group, Schedule

Row = tuple[int, int, int]
"""Group, image and step that a row of a micro-batch is."""


@dataclass(kw_only=True, slots=True)
class Iteration:
    """What the updates of an iteration learn from, on this process."""

    number: int
    plan: Schedule
    groups: list[Group]
    pending: list[PendingGroup] = field(default_factory=list)
    """Groups whose rewards are being measured."""
    advantages: ByImage | None = None
    """Of this process; None until the rewards are there."""
    used: Bool[Tensor, " groups"] | None = None
    """Which groups have rewards."""
    used_everywhere: int = 0
    """How many have on all processes."""
    metrics: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    stop: str = ""
    """Why the run has to end, if it has to."""

    def tensors(self) -> dict[str, Tensor]:
        """What later updates learn from, for checkpoints, once the rewards are there."""
        assert self.advantages is not None and self.used is not None
        found = {"advantages": self.advantages, "used": self.used}
        for place, group in enumerate(self.groups):
            found |= {f"{place}/{name}": each for name, each in group.tensors().items()}
        return found


def groups_of(
    tensors: Mapping[str, Tensor], device: torch.device
) -> tuple[list[dict[str, Tensor]], Tensor, Tensor]:
    """Of the tensors of an iteration on one process: those of its groups, advantages, used."""
    groups: list[dict[str, Tensor]] = [{} for _ in tensors["used"]]
    for name, value in tensors.items():
        place, slash, inner = name.partition("/")
        if slash:
            groups[int(place)][inner] = value.to(device)
    return groups, tensors["advantages"], tensors["used"]


def update_batches(
    iteration: Iteration, update: int, config: RlConfig, *, seed: int, size: int
) -> list[PolicyBatch]:
    """The micro-batches of an update.

    Their weights sum to 1 over all processes, whatever the sizes of micro-batches: each row of a
    group with rewards has the same.

    Args:
        iteration: With its advantages.
        update: Of the iteration; each has its own images of every group.
        config: Group size, updates, objective.
        seed: Of the run.
        size: Rows of a micro-batch.
    """
    rollout, policy = config.rollout, config.policy
    images = iteration.used_everywhere * rollout.group_size // policy.updates
    weight = 1 / (images * rollout.trained) if images else 0.0
    rows = list(_rows(iteration, update, policy.updates, seed))
    made = [
        _batch(iteration, rows[first : first + size], weight, config)
        for first in range(0, len(rows), size)
    ]
    made[0] = replace(
        made[0],
        metrics=iteration.metrics,
        skip="" if images else "no group with a reward",
        stop=iteration.stop,
        is_first=True,
    )
    return made


def _rows(iteration: Iteration, update: int, updates: int, seed: int) -> Iterator[Row]:
    """All rows of an update: its images at every trained step."""
    for place, group in enumerate(iteration.groups):
        members = _members(group, update, updates, seed)
        for index in iteration.plan.trained:
            for member in members:
                yield place, member, index


def _members(group: Group, update: int, updates: int, seed: int) -> list[int]:
    """The images of a group that an update learns from; the same on any number of processes."""
    key, size = group.key, len(group.final)
    place = f"rl/members/{key.prompt.id}#{key.occurrence}"
    order = sample_generator(seed, key.iteration, 0, place).permutation(size)
    count = size // updates
    return sorted(int(each) for each in order[update * count : (update + 1) * count])


def _batch(
    iteration: Iteration, rows: Sequence[Row], weight: float, config: RlConfig
) -> PolicyBatch:
    """One micro-batch."""
    assert iteration.advantages is not None and iteration.used is not None
    plan, groups, used = iteration.plan, iteration.groups, iteration.used.tolist()
    policy = config.policy

    def picked(name: str, after: int = 0) -> list[Tensor]:
        """Values of the rows from what groups keep by step, or from the step after."""
        return [getattr(groups[g], name)[index + after][member] for g, member, index in rows]

    common: dict[str, Any] = {
        "sigmas": torch.tensor([plan.transitions[index].sigma for _, _, index in rows]),
        "conditions": [groups[g].condition for g, _, _ in rows],
        "advantages": torch.stack([iteration.advantages[g, m] for g, m, _ in rows]).float(),
        "weights": torch.tensor([weight * used[g] for g, _, _ in rows]),
        "reference_velocities": picked("references") if policy.beta else None,
        "row_ids": [groups[g].key.prompt.id for g, _, _ in rows],
    }
    if policy.objective == "nft":
        return NoisedBatch(
            latents=picked("noised"),
            clean=[groups[g].final[member] for g, member, _ in rows],
            old_velocities=picked("old_velocities") if policy.updates > 1 else None,
            **common,
        )
    return TransitionBatch(
        latents=picked("states"),
        following=picked("states", 1),
        transitions=[plan.transitions[index] for _, _, index in rows],
        factors=[plan.factors[index] for _, _, index in rows],
        old_log_probs=torch.stack(picked("log_probs")) if policy.stores_log_probs else None,
        **common,
    )
