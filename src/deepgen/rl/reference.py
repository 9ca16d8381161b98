"""The reference policy: the DiT as it was when reinforcement learning began.

It shares the conditions with the policy, since everything before the DiT is frozen. With adapters
it is the policy without them; else it is a copy, in the precision of matrix products.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from deepgen.model import DeepGen
from deepgen.nn.lora import lora_layers, without_adapters
from deepgen.rl.grpo import PolicyBatch, predicted
from deepgen.types import Latents


class ReferencePolicy:
    """Velocities of the reference policy.

    Args:
        model: The policy, before it is trained or sharded.
        autocast: Compute in this dtype; None computes in that of the weights.
    """

    def __init__(self, model: DeepGen, *, autocast: torch.dtype | None = None) -> None:
        self.autocast = autocast
        self._policy: Any = model
        self._has_adapters: bool = next(lora_layers(model.dit), None) is not None
        if not self._has_adapters:
            self._policy = _Frozen(model.dit, autocast)

    @torch.no_grad()
    def __call__(self, batch: PolicyBatch) -> Sequence[Latents]:
        """Velocities at the rows of a batch, in float32."""
        with self._without_adapters():
            return predicted(self._policy, batch, self.autocast)

    @contextmanager
    def _without_adapters(self) -> Iterator[None]:
        if not self._has_adapters:
            yield
            return
        with without_adapters(self._policy.dit):
            yield


class _Frozen:
    """A copy of a DiT, which no checkpoint and no optimizer sees."""

    def __init__(self, dit: nn.Module, autocast: torch.dtype | None) -> None:
        frozen: Any = copy.deepcopy(dit).eval().requires_grad_(False)
        frozen.checkpointing = False
        self.dit = frozen if autocast is None else frozen.to(autocast)

    @property
    def device(self) -> torch.device:
        device: torch.device = self.dit.proj_out.weight.device
        return device
