"""All of MR-GRPO's loss: ``(1 - lambda) policy + lambda SFT`` (DeepGen paper, section 4.3)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from deepgen.rl.grpo import PolicyBatch
from deepgen.train.objective import FlowBatch, FlowObjective, Loss
from deepgen.train.trainer import Objective


class RlObjective:
    """Weighs the supervised micro-batches of a step against those of the policy.

    Args:
        policy: Loss of a micro-batch of rollouts.
        supervised: Of one of the data; None without them.
        sft_weight: Lambda.
        reports_gradients: Whether the norm of the supervised gradient alone is reported. Its
            micro-batches come first, so it is that of all gradients before the first of the
            policy's; of several processes each has only its part of it.
    """

    def __init__(
        self,
        policy: Objective[Any, Any],
        supervised: FlowObjective | None,
        sft_weight: float,
        *,
        reports_gradients: bool = True,
    ) -> None:
        self.policy = policy
        self.supervised = supervised
        self.sft_weight = sft_weight if supervised is not None else 0.0
        self.reports_gradients = reports_gradients and supervised is not None

    def __call__(
        self, model: Any, batch: FlowBatch | PolicyBatch, generator: torch.Generator
    ) -> Loss:
        """The micro-batch's part of the loss of a step."""
        if isinstance(batch, FlowBatch):
            assert self.supervised is not None, "supervised batches without their objective"
            loss = self.supervised(model, batch, generator)
            parts = {"sft": loss.parts["loss"]}
            return self._weighed(loss, parts, self.sft_weight)
        norm = _gradient_norm(model) if self.reports_gradients and batch.is_first else None
        loss = self.policy(model, batch, generator)
        if norm is not None:
            loss = replace(loss, means={**loss.means, "grad_norm_sft": (norm, 1)})
        return self._weighed(loss, loss.parts, 1 - self.sft_weight)

    def _weighed(self, loss: Loss, parts: Any, weight: float) -> Loss:
        total = weight * loss.total
        return replace(loss, total=total, parts={"loss": total.detach(), **parts})


def _gradient_norm(model: nn.Module) -> torch.Tensor:
    """Norm of all gradients so far; 0 without any."""
    gradients = [value.grad for value in model.parameters() if value.grad is not None]
    return torch.nn.utils.get_total_norm(gradients) if gradients else torch.zeros(())
