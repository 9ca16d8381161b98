"""Per-sample RNG: random numbers that are a function of run, stage, sample, epoch and purpose.

Which process computes a sample, in which micro-batch, and after how many restarts has no influence
on its noise. So there is no state to save, and no two processes draw the same numbers. The
generator is counter-based, see :func:`deepgen.data.randomness.sample_generator`.
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
    """Purpose of the first reference; those of the others follow."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleKey:
    """A sample in an epoch."""

    sample: str
    """Its id, unique among all data of a run."""
    epoch: int = 0


class SampleRng:
    """Random numbers of samples.

    Args:
        seed: Of the run.
        stage: Name of the training stage, so that stages draw different numbers.
    """

    def __init__(self, seed: int, stage: str) -> None:
        self.seed = seed
        self.stage = stage

    def uniform(self, key: SampleKey, purpose: int) -> float:
        """A float32 number in [0, 1)."""
        return float(self._stream(key, purpose).random(dtype=np.float32))

    def normal(self, key: SampleKey, purpose: int, shape: torch.Size) -> Tensor:
        """Standard normal numbers of a shape, in float32 on the CPU."""
        stream = self._stream(key, purpose)
        return torch.from_numpy(stream.standard_normal(tuple(shape), dtype=np.float32))

    def _stream(self, key: SampleKey, purpose: int) -> np.random.Generator:
        what = f"{self.stage}/{purpose}"
        return sample_generator(self.seed, sid_of(key.sample), key.epoch, what)
