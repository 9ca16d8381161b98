"""An exponential moving average of the weights, which evaluation and export use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from deepgen.train.parallel.sharding import local


class Ema:
    """Exponential moving average of trained parameters, in float32.

    After every step ``ema += (1 - d) * (weights - ema)`` with ``d = min(decay, (step + 1) /
    (step + 10))``, so that the initial weights are soon forgotten.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float = 0.999) -> None:
        self._parameters = dict(parameters)
        self.weights: dict[str, Tensor] = {
            name: value.detach().float().clone() for name, value in parameters.items()
        }
        self.decay = decay

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Update the EMA after step ``step`` (0 for the first)."""
        decay = min(self.decay, (step + 1) / (step + 10))
        averages = [local(value) for value in self.weights.values()]
        weights = [local(value).float() for value in self._parameters.values()]
        torch._foreach_lerp_(averages, weights, 1 - decay)

    @torch.no_grad()
    def copy_to_model(self) -> None:
        """Copy the EMA weights into the model."""
        for name, value in self._parameters.items():
            value.copy_(self.weights[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """In the body the model has the EMA weights; afterwards its own weights again."""
        before = {name: value.detach().clone() for name, value in self._parameters.items()}
        self.copy_to_model()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in self._parameters.items():
                    value.copy_(before[name])
