"""A slowly moving average of the weights; samples come from it."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)


class Ema(Generic[Model]):
    """Exponential moving average of a model's parameters.

    ``average += (1 - decay) * (weights - average)`` after every update, with a decay that starts
    low, so that the first steps do not linger.
    """

    def __init__(self, model: Model, decay: float = 0.999) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Follow the model after update ``step`` (0 for the first)."""
        decay = min(self.decay, (step + 1) / (step + 10))
        average: list[Tensor] = list(self.model.parameters())
        torch._foreach_lerp_(average, list(model.parameters()), 1 - decay)
