"""MR-GRPO's loss: clipped surrogate and divergence in velocities (DeepGen paper, section 4.3).

The surrogate is PPO's (Schulman et al., arXiv 1707.06347, equation 7) on single transitions of a
sampler, as in Flow-GRPO (arXiv 2505.05470, equation 5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from deepgen.config.rl import Divergence, PolicyConfig
from deepgen.devices import send
from deepgen.flow.sde import Transition, log_probabilities
from deepgen.train.objective import Loss
from deepgen.types import Condition, Latents

ByRow = Float[Tensor, " rows"]

VARIANCE_EPSILON = 1e-7
"""Added to twice the variance in ``v_over_var``, as in the published code."""


@runtime_checkable
class Policy(Protocol):
    """What is learned: of a model, the DiT."""

    @property
    def dit(self) -> Any:
        """See :class:`deepgen.dit.model.DiT`."""

    @property
    def device(self) -> torch.device:
        """The DiT's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyBatch:
    """Rows to learn from: each is an image at one noise level."""

    latents: Sequence[Latents]
    """Noisy latents that the policy sees, in float32."""
    sigmas: ByRow
    conditions: Sequence[Condition]
    advantages: ByRow
    weights: ByRow
    """Fraction of each row in the loss. They sum to 1 over all micro-batches of an update, on all
    processes; rows of groups without rewards have 0."""
    reference_velocities: Sequence[Latents] | None
    """Of the reference policy; None without a divergence."""
    row_ids: Sequence[str] = ()
    metrics: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    """Sum and count of what is reported of the rollout, on the first of its micro-batches."""
    is_first: bool = False
    """Whether it is this process's first one of an update."""
    skip: str = ""
    """Why no step must be made, if none must."""
    stop: str = ""
    """Why the run has to end after this step, if it has to."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TransitionBatch(PolicyBatch):
    """Transitions of rollouts."""

    following: Sequence[Latents]
    """Latents after each step, as they were sampled."""
    transitions: Sequence[Transition]
    factors: Sequence[float]
    """See :func:`deepgen.flow.sde.scaling_factors`."""
    old_log_probs: ByRow | None
    """Of the rollout; None where this update's own stand in, so that ratios are 1."""


def clipped_surrogate(ratios: ByRow, advantages: ByRow, *, low: float, high: float) -> ByRow:
    """``max(-A ratio, -A clip(ratio, 1 - low, 1 + high))``: no gain from moving further."""
    return torch.maximum(-advantages * ratios, -advantages * ratios.clamp(1 - low, 1 + high))


def divergences(velocities: Sequence[Latents], others: Sequence[Latents]) -> ByRow:
    """Mean squared distance of two policies' velocities, per row."""
    return torch.stack(
        [(one - other).square().mean() for one, other in zip(velocities, others, strict=True)]
    )


def divergence_factor(form: Divergence, step: Transition) -> float:
    """What the squared distance of velocities is multiplied by, see ``config.rl.Divergence``."""
    if form == "v":
        return 1.0
    if form == "v_over_var":
        return 1 / (2 * step.std**2 + VARIANCE_EPSILON)
    return step.velocity**2 / (2 * step.std**2)


class GrpoObjective:
    """The policy's part of the loss: surrogate and ``beta`` times the divergence.

    Args:
        config: Clipping and divergence.
        autocast: Compute the network in this dtype; None computes in that of the weights.
    """

    def __init__(self, config: PolicyConfig, *, autocast: torch.dtype | None = None) -> None:
        self.config = config
        self.autocast = autocast

    def __call__(self, model: Policy, batch: TransitionBatch, generator: torch.Generator) -> Loss:
        """See the class; ratios and distances are computed in float32."""
        config = self.config
        velocities = predicted(model, batch, self.autocast)
        log_probs = log_probabilities(
            batch.transitions, batch.latents, velocities, batch.following, batch.factors
        )
        stored = batch.old_log_probs
        old = log_probs.detach() if stored is None else send(stored, log_probs.device)
        ratios = (log_probs - old).exp()
        advantages = send(batch.advantages, ratios.device).to(ratios.dtype)
        surrogate = clipped_surrogate(
            ratios, advantages, low=config.clip_low, high=config.clip_high
        )
        factors = torch.tensor(
            [divergence_factor(config.divergence, each) for each in batch.transitions],
            dtype=ratios.dtype,
            device=ratios.device,
        )
        ratios = ratios.detach()
        means = {
            "ratio": _mean(ratios),
            "ratio_error": _mean((ratios - 1).abs()),
            "clipped/high": _mean((ratios > 1 + config.clip_high) & (advantages > 0)),
            "clipped/low": _mean((ratios < 1 - config.clip_low) & (advantages < 0)),
        }
        return policy_loss(batch, surrogate, velocities, factors, config.beta, means)


def predicted(
    policy: Policy, batch: PolicyBatch, autocast: torch.dtype | None
) -> Sequence[Latents]:
    """The policy's velocities, without guidance, as in the rollout."""
    device = policy.device
    latents = [send(each, device) for each in batch.latents]
    with torch.autocast(device.type, autocast, enabled=autocast is not None):
        velocities: Sequence[Latents] = policy.dit(
            latents, 1000 * batch.sigmas, batch.conditions, [[] for _ in latents]
        )
    return velocities


def policy_loss(
    batch: PolicyBatch,
    policy: ByRow,
    velocities: Sequence[Latents],
    factors: ByRow,
    beta: float,
    means: Mapping[str, tuple[Tensor, int | float]],
) -> Loss:
    """``sum of weight * (policy + beta * divergence)``, and what is reported of it.

    Args:
        policy: Loss of each row.
        factors: Of the squared distance of velocities in the divergence.
        means: Reported besides.
    """
    weights = send(batch.weights, policy.device).to(policy.dtype)
    rows = policy
    parts = {"policy": (weights * policy).sum()}
    if batch.reference_velocities is not None:
        references = [send(each, policy.device) for each in batch.reference_velocities]
        distances = divergences(velocities, references)
        rows = policy + beta * factors * distances
        parts["kl"] = (weights * factors * distances).sum()
        parts["velocity_distance"] = (weights * distances).sum()
    total = (weights * rows).sum()
    rollout = {name: (torch.tensor(value), count) for name, (value, count) in batch.metrics.items()}
    return Loss(
        total=total,
        parts={name: value.detach() for name, value in parts.items()},
        means={**rollout, **means},
        samples=rows.detach(),
        sample_ids=batch.row_ids,
        work={"images": 0.0},
        skip=batch.skip,
        stop=batch.stop,
    )


def _mean(values: Tensor) -> tuple[Tensor, int]:
    return values.float().sum().cpu(), len(values)
