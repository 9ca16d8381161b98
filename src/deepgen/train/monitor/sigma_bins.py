"""Bins of noise levels, by which losses are logged."""

from __future__ import annotations

from bisect import bisect_left

import numpy as np
from jaxtyping import Float
from torch import Tensor

BINS = 10
"""Tenths of the training levels and not of [0, 1], so that every bin gets a tenth of all samples
where levels are drawn uniformly, and all means are equally accurate."""


class SigmaBins:
    """Bins with equally many training levels each.

    Args:
        sigmas: The training levels, descending from 1.
    """

    def __init__(self, sigmas: Float[Tensor, " timesteps"]) -> None:
        ascending = sorted(sigmas.tolist())
        bins = [each for each in np.array_split(ascending, BINS) if len(each)]
        self._tops = [float(each[-1]) for each in bins]
        self._names = [f"sigma_{each[0]:.3f}-{each[-1]:.3f}" for each in bins]

    def name(self, sigma: float) -> str:
        """The bin of a level, by its lowest and highest."""
        place = bisect_left(self._tops, sigma)
        return self._names[min(place, len(self._names) - 1)]
