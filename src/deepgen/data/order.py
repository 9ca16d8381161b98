"""Which samples belong to which step: a function of seed and step, and of nothing else.

A *stream* is the endless sequence of samples of one task. It is cut into windows; inside a window,
samples of equal sizes are grouped into micro-batches, and the remainders of all sizes form mixed
ones, so no sample is dropped or repeated. Neither the number of processes nor that of threads
matters: global micro-batches are defined first and distributed over ranks second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from deepgen.config.checks import check_at_least
from deepgen.data.randomness import key_of, permuted

Rows = npt.NDArray[np.int64]

WINDOW_STEPS = 256
"""Steps per window at most. Larger windows have fewer mixed micro-batches; smaller ones shuffle
less far."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Occurrence:
    """A sample at one position of a stream: its row, and the number of complete epochs before."""

    row: int
    epoch: int


class EpochOrder:
    """The endless shuffled order of one source: every sample once per epoch.

    The name is that of the stream, so that two of them differ under one seed.
    """

    def __init__(self, rows: Rows, *, seed: int, name: str) -> None:
        if len(rows) == 0:
            raise ValueError(f"no samples for {name}")
        self.rows = rows
        self.seed = seed
        self.name = name

    def between(self, first: int, end: int) -> tuple[Rows, Rows]:
        """Rows and epochs at the positions ``first`` to ``end``, without computing any before."""
        return self.at(np.arange(first, end, dtype=np.int64))

    def at(self, places: Rows) -> tuple[Rows, Rows]:
        """Rows and epochs at some positions."""
        epochs, positions = np.divmod(places, len(self.rows))
        rows = np.empty(len(epochs), dtype=np.int64)
        for epoch in np.unique(epochs).tolist():
            mine = epochs == epoch
            key = key_of(self.seed, "epoch", self.name, epoch)
            rows[mine] = self.rows[permuted(positions[mine], len(self.rows), key)]
        return rows, epochs


class Stream:
    """The micro-batches of one task, by step.

    Args:
        buckets: For every row of the data set the number of its bucket.
        microbatches: Micro-batches per step, on all ranks together.
    """

    def __init__(
        self,
        order: EpochOrder,
        buckets: npt.NDArray[np.int32],
        *,
        microbatch_size: int,
        microbatches: int,
    ) -> None:
        check_at_least("microbatch_size", microbatch_size, 1)
        check_at_least("microbatches", microbatches, 1)
        self.order = order
        self.buckets = buckets
        self.microbatch_size = microbatch_size
        self.microbatches = microbatches
        # Of a small data set, a window holds about one epoch: in a longer one, a sample could occur
        # several times before another occurs once.
        epoch_steps = len(order.rows) // (microbatch_size * microbatches)
        self.window_steps = min(max(epoch_steps, 1), WINDOW_STEPS)
        self._window = lru_cache(maxsize=2)(self._make_window)

    @property
    def samples_per_step(self) -> int:
        """Samples of one step, on all ranks together."""
        return self.microbatch_size * self.microbatches

    def step(self, step: int) -> list[list[Occurrence]]:
        """All micro-batches of a step, in the order in which they are distributed over ranks."""
        window, offset = divmod(step, self.window_steps)
        batches = self._window(window)
        first = offset * self.microbatches
        return [
            [Occurrence(row=row, epoch=epoch) for row, epoch in batch]
            for batch in batches[first : first + self.microbatches].tolist()
        ]

    def _make_window(self, window: int) -> npt.NDArray[np.int64]:
        """Micro-batches of a window: [micro-batches, samples, (row, epoch)]."""
        size = self.window_steps * self.samples_per_step
        rows, epochs = self.order.between(window * size, (window + 1) * size)
        batches = _group(self.buckets[rows], self.microbatch_size)
        key = key_of(self.order.seed, "window", self.order.name, window)
        shuffled = batches[permuted(np.arange(len(batches)), len(batches), key)]
        return np.stack([rows[shuffled], epochs[shuffled]], axis=-1)


@dataclass(frozen=True, kw_only=True, slots=True)
class MicroBatchPlan:
    """A micro-batch before anything of it is read."""

    step: int
    stream: str
    occurrences: Sequence[Occurrence]


def plan_of(
    streams: Sequence[Stream], step: int, *, rank: int = 0, world_size: int = 1
) -> list[MicroBatchPlan]:
    """What one rank computes in a step: every ``world_size``-th micro-batch of all streams.

    Streams follow each other, so that ranks work on the same task as far as their number allows.
    Where the count is not divisible, some ranks have one micro-batch fewer.
    """
    if not 0 <= rank < world_size:
        raise ValueError(f"rank {rank} of {world_size} processes")
    if step < 0:
        raise ValueError(f"steps count from 0, got {step}")
    plans = [
        MicroBatchPlan(step=step, stream=stream.order.name, occurrences=occurrences)
        for stream in streams
        for occurrences in stream.step(step)
    ]
    return plans[rank::world_size]


def _group(buckets: npt.NDArray[np.int32], size: int) -> Rows:
    """Positions, grouped so that the rows of the result share a bucket wherever that is possible.

    Args:
        buckets: One number per position; their count is a multiple of ``size``.
        size: Length of the rows of the result.
    """
    order = np.argsort(buckets, kind="stable")
    ordered = buckets[order]
    _, firsts, counts = np.unique(ordered, return_index=True, return_counts=True)
    # Place of each position within its bucket; those beyond the last full batch are left over.
    place = np.arange(len(order)) - np.repeat(firsts, counts)
    is_left_over = place >= np.repeat(counts - counts % size, counts)
    return np.concatenate([order[~is_left_over], order[is_left_over]]).reshape(-1, size)
