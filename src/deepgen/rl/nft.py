"""DiffusionNFT's loss: the forward process, no likelihood (Zheng et al., arXiv 2509.16117).

Section 3.2 there: with the probability r that an image is good, and v+ and v- as far on either side
of the old policy's velocity, ``r |x0(v+) - x0|^2 + (1 - r) |x0(v-) - x0|^2`` on images that were
sampled by any solver, noised anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deepgen.config.rl import PolicyConfig
from deepgen.devices import send
from deepgen.rl.grpo import ByRow, Policy, PolicyBatch, policy_loss, predicted
from deepgen.train.objective import Loss
from deepgen.types import Latents

SMALLEST_ERROR = 1e-5
"""Of an image's mean absolute error that its squared one is divided by."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NoisedBatch(PolicyBatch):
    """Sampled images, noised again."""

    clean: Sequence[Latents]
    """What was sampled."""
    old_velocities: Sequence[Latents] | None
    """Of the policy that sampled; None where the policy of this update is the same one."""


class NftObjective:
    """The policy's part of the loss, and ``beta`` times the squared distance of velocities.

    Each squared error is divided by the image's mean absolute error, without gradient (there,
    equation 15), so that all noise levels count alike.

    Args:
        config: ``nft_beta`` and ``beta``.
        largest: Advantage that makes an image certainly good.
        autocast: Compute the network in this dtype; None computes in that of the weights.
    """

    def __init__(
        self, config: PolicyConfig, *, largest: float, autocast: torch.dtype | None = None
    ) -> None:
        self.config = config
        self.largest = largest
        self.autocast = autocast

    def __call__(self, model: Policy, batch: NoisedBatch, generator: torch.Generator) -> Loss:
        """See the class."""
        velocities = predicted(model, batch, self.autocast)
        device = velocities[0].device
        old = batch.old_velocities
        before = [v.detach() for v in velocities] if old is None else [send(v, device) for v in old]
        losses = []
        good = probabilities(batch.advantages, self.largest).tolist()
        for noisy, clean, sigma, velocity, past, chance in zip(
            batch.latents, batch.clean, batch.sigmas.tolist(), velocities, before, good, strict=True
        ):
            noisy, clean = send(noisy, device), send(clean, device)
            moved = self.config.nft_beta * (velocity - past)
            towards = _error(noisy - sigma * (past + moved), clean)
            away = _error(noisy - sigma * (past - moved), clean)
            losses.append(chance * towards + (1 - chance) * away)
        policy = torch.stack(losses)
        moves = torch.stack(
            [(v - w).square().mean() for v, w in zip(velocities, before, strict=True)]
        )
        means = {"velocity_move": (moves.detach().float().sum().cpu(), len(moves))}
        factors = torch.ones_like(policy)
        return policy_loss(batch, policy, velocities, factors, self.config.beta, means)


def probabilities(advantages: ByRow, largest: float) -> ByRow:
    """How likely an image is good: 1/2 at advantage 0, 0 and 1 at the largest ones."""
    return 0.5 + 0.5 * (advantages / largest).clamp(-1, 1)


def _error(estimate: Tensor, clean: Tensor) -> Tensor:
    """Squared error over its own size."""
    size = (estimate - clean).detach().abs().mean().clamp(min=SMALLEST_ERROR)
    return (estimate - clean).square().mean() / size
