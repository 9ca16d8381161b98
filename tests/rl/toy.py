"""A policy of a few numbers, in float64, in place of the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from deepgen.types import Condition


class ToyDit(nn.Module):
    """Velocities that are a smooth function of latents, time and three weights."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(seed)
        self.weights = nn.Parameter(torch.randn(3, generator=rng, dtype=torch.float64))
        self.mix = nn.Parameter(torch.randn(4, 4, generator=rng, dtype=torch.float64) / 4)
        self.calls = 0

    def forward(
        self,
        latents: Sequence[Tensor],
        timesteps: Tensor,
        conditions: Sequence[Condition],
        references: Sequence[Sequence[Tensor]],
    ) -> list[Tensor]:
        self.calls += 1
        first, second, third = self.weights
        return [
            first * x @ self.mix
            + second * x.tanh() * (t / 1000)
            + third * c.pooled_prompt_embeds[0]
            for x, t, c in zip(latents, timesteps.double(), conditions, strict=True)
        ]


class ToyModel(nn.Module):
    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.dit = ToyDit(seed)

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")


def toy(seed: int = 0) -> Any:
    return ToyModel(seed)


def condition(value: float) -> Condition:
    return Condition(
        prompt_embeds=torch.zeros(1, 2, dtype=torch.float64),
        pooled_prompt_embeds=torch.full((2,), value, dtype=torch.float64),
    )


def gradient(model: nn.Module) -> Tensor:
    return torch.cat(
        [value.grad.flatten() for value in model.parameters() if value.grad is not None]
    )
