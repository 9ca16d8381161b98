"""Bands of noise levels, by which losses are logged."""

from __future__ import annotations

from bisect import bisect_left

import numpy as np
from jaxtyping import Float
from torch import Tensor

BANDS = 10
"""Tenths of the training levels and not of [0, 1], so that every band gets a tenth of all samples
where levels are drawn uniformly, and all means are equally accurate."""


class SigmaBands:
    """Bands with equally many training levels each.

    Args:
        sigmas: The training levels, falling from 1.
    """

    def __init__(self, sigmas: Float[Tensor, " timesteps"]) -> None:
        rising = sorted(sigmas.tolist())
        bands = [each for each in np.array_split(rising, BANDS) if len(each)]
        self._tops = [float(each[-1]) for each in bands]
        self._names = [f"sigma_{each[0]:.3f}-{each[-1]:.3f}" for each in bands]

    def name(self, sigma: float) -> str:
        """The band of a level, by its lowest and highest."""
        place = bisect_left(self._tops, sigma)
        return self._names[min(place, len(self._names) - 1)]
