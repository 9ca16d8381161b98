"""Randomness that belongs to the visit of a sample, and to nothing else.

Which process computes a sample, beside which others, and after how many restarts has no influence
on its noise. So there is no state to save, and no two processes draw the same numbers.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor


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
    """Numbers of a visit, by Philox (Salmon et al. 2011), a generator that counts.

    Args:
        seed: Of the run.
        stage: Name of the training stage, so that no stage repeats the draws of another.
    """

    def __init__(self, seed: int, stage: str) -> None:
        self._key = _digest(f"{stage}/{seed}", 2)

    def uniform(self, visit: Visit, purpose: int) -> float:
        """A float32 number in [0, 1)."""
        return float(self._stream(visit, purpose).random(dtype=np.float32))

    def normal(self, visit: Visit, purpose: int, shape: torch.Size) -> Tensor:
        """Standard normal numbers in float32, on the CPU."""
        stream = self._stream(visit, purpose)
        return torch.from_numpy(stream.standard_normal(tuple(shape), dtype=np.float32))

    def _stream(self, visit: Visit, purpose: int) -> np.random.Generator:
        # The first word counts what is drawn.
        (sample,) = _digest(visit.sample, 1)
        counter = np.array([0, sample, visit.epoch, purpose], dtype=np.uint64)
        return np.random.Generator(np.random.Philox(counter=counter, key=self._key))


def _digest(text: str, words: int) -> np.ndarray:
    """64-bit words that tell texts apart."""
    digest = hashlib.blake2b(text.encode(), digest_size=8 * words).digest()
    return np.frombuffer(digest, dtype="<u8")
