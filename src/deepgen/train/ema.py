"""A slowly moving average of the weights; samples come from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from deepgen.train.parallel.sharding import own


class Ema:
    """Exponential moving average of trained parameters, in float32.

    ``average += (1 - decay) * (weights - average)`` after every update, with a decay that starts
    low, so that the first steps do not linger.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float = 0.999) -> None:
        self._parameters = dict(parameters)
        self.average: dict[str, Tensor] = {
            name: value.detach().float().clone() for name, value in parameters.items()
        }
        self.decay = decay

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Follow the model after update ``step`` (0 for the first)."""
        decay = min(self.decay, (step + 1) / (step + 10))
        averages = [own(value) for value in self.average.values()]
        weights = [own(value).float() for value in self._parameters.values()]
        torch._foreach_lerp_(averages, weights, 1 - decay)

    @torch.no_grad()
    def settle(self) -> None:
        """Give the model the average for good."""
        for name, value in self._parameters.items():
            value.copy_(self.average[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the model has the average; behind it, its own weights again."""
        before = {name: value.detach().clone() for name, value in self._parameters.items()}
        self.settle()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in self._parameters.items():
                    value.copy_(before[name])
