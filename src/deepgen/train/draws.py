"""Randomness that belongs to the visit of a sample, and to nothing else.

Which process computes a sample, beside which others, and after how many restarts has no influence
on its noise. So there is no state to save, and no two processes draw the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor

from deepgen.data.randomness import sample_generator
from deepgen.data.records import sid_of


class Purpose(IntEnum):
    """What a number is drawn for; each has a stream of its own."""

    CAPTION_DROP = 0
    LEVEL = 1
    NOISE = 2
    TARGET_POSTERIOR = 3
    REFERENCE_POSTERIOR = 4
    """Of the first reference; those of the others follow."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Visit:
    """One look at one sample."""

    sample: str
    """Its id, unique among all data of a run."""
    epoch: int = 0
    """How often it was looked at before."""


class VisitDraws:
    """Numbers of a visit.

    Args:
        seed: Of the run.
        stage: Name of the training stage, so that no stage repeats the draws of another.
    """

    def __init__(self, seed: int, stage: str) -> None:
        self.seed = seed
        self.stage = stage

    def uniform(self, visit: Visit, purpose: int) -> float:
        """A float32 number in [0, 1)."""
        return float(self._stream(visit, purpose).random(dtype=np.float32))

    def normal(self, visit: Visit, purpose: int, shape: torch.Size) -> Tensor:
        """Standard normal numbers in float32, on the CPU."""
        stream = self._stream(visit, purpose)
        return torch.from_numpy(stream.standard_normal(tuple(shape), dtype=np.float32))

    def _stream(self, visit: Visit, purpose: int) -> np.random.Generator:
        what = f"{self.stage}/{purpose}"
        return sample_generator(self.seed, sid_of(visit.sample), visit.epoch, what)
