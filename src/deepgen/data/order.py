"""Which samples belong to which update: a function of seed and step, and of nothing else.

One *stream* is the endless order of visits of one task. It is cut into windows; inside a window,
samples of equal sizes are put together into micro-batches, and what is left of all sizes forms
mixed ones, so nothing is dropped or repeated. Neither the number of processes nor that of threads
takes part: global micro-batches are defined first and dealt out to ranks second.

A stream draws from one data set. A mixture of several puts its block schedule in front: draw k of
the stream then names a source first, and :class:`Visits` of that source the row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from deepgen.data.randomness import key_of, permuted

Rows = npt.NDArray[np.int64]

WINDOW_STEPS = 256
"""Updates per window at most. More gives purer buckets, fewer shuffle less far."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Visit:
    """A sample's turn: which one, and how often the data had been gone through before."""

    row: int
    epoch: int


class Visits:
    """The endless order in which one source is visited: every sample once per epoch.

    Args:
        rows: The rows to visit.
        seed: Of the run.
        name: Of the stream, so that two of them differ under one seed.
    """

    def __init__(self, rows: Rows, *, seed: int, name: str) -> None:
        if len(rows) == 0:
            raise ValueError(f"no samples for {name}")
        self.rows = rows
        self.seed = seed
        self.name = name

    def between(self, first: int, end: int) -> tuple[Rows, Rows]:
        """Rows and epochs of the draws ``first`` to ``end``, without going through any before."""
        draws = np.arange(first, end, dtype=np.int64)
        epochs, positions = np.divmod(draws, len(self.rows))
        rows = np.empty(len(draws), dtype=np.int64)
        for epoch in np.unique(epochs).tolist():
            mine = epochs == epoch
            key = key_of(self.seed, "epoch", self.name, epoch)
            rows[mine] = self.rows[permuted(positions[mine], len(self.rows), key)]
        return rows, epochs


class Stream:
    """The micro-batches of one task, by update.

    Args:
        visits: The order of samples.
        buckets: For every row of the data set the number of its bucket.
        microbatch_size: Samples per micro-batch.
        microbatches: Micro-batches per update, on all ranks together.
    """

    def __init__(
        self,
        visits: Visits,
        buckets: npt.NDArray[np.int32],
        *,
        microbatch_size: int,
        microbatches: int,
    ) -> None:
        if microbatch_size < 1 or microbatches < 1:
            raise ValueError(
                f"an update needs at least one micro-batch of at least one sample, "
                f"got {microbatches} of {microbatch_size}"
            )
        self.visits = visits
        self.buckets = buckets
        self.microbatch_size = microbatch_size
        self.microbatches = microbatches
        # A window holds about one epoch of a small data set: across more of them, a sample could
        # be visited several times before another is visited once.
        epoch_steps = len(visits.rows) // (microbatch_size * microbatches)
        self.window_steps = min(max(epoch_steps, 1), WINDOW_STEPS)
        self._window = lru_cache(maxsize=2)(self._make_window)

    @property
    def samples_per_step(self) -> int:
        """Of one update."""
        return self.microbatch_size * self.microbatches

    def step(self, step: int) -> list[list[Visit]]:
        """All micro-batches of an update, in the order in which they are dealt out to ranks."""
        window, offset = divmod(step, self.window_steps)
        batches = self._window(window)
        first = offset * self.microbatches
        return [
            [Visit(row=row, epoch=epoch) for row, epoch in batch]
            for batch in batches[first : first + self.microbatches].tolist()
        ]

    def _make_window(self, window: int) -> npt.NDArray[np.int64]:
        """Micro-batches of a window: [micro-batches, samples, (row, epoch)]."""
        size = self.window_steps * self.samples_per_step
        rows, epochs = self.visits.between(window * size, (window + 1) * size)
        batches = _group(self.buckets[rows], self.microbatch_size)
        key = key_of(self.visits.seed, "window", self.visits.name, window)
        shuffled = batches[permuted(np.arange(len(batches)), len(batches), key)]
        return np.stack([rows[shuffled], epochs[shuffled]], axis=-1)


@dataclass(frozen=True, kw_only=True, slots=True)
class MicroBatchPlan:
    """A micro-batch before anything of it is read."""

    step: int
    stream: str
    visits: Sequence[Visit]
    update_samples: int
    """Samples of this stream in the whole update, on all ranks; what losses are averaged over."""


def plan_of(
    streams: Sequence[Stream], step: int, *, rank: int = 0, world_size: int = 1
) -> list[MicroBatchPlan]:
    """What one rank computes for an update: every ``world_size``-th micro-batch of all streams.

    Streams go one after the other, so that ranks work on the same task as far as their number
    allows. Where the count cannot be divided, some ranks have one micro-batch fewer.
    """
    if not 0 <= rank < world_size:
        raise ValueError(f"rank {rank} of {world_size} processes")
    if step < 0:
        raise ValueError(f"steps count from 0, got {step}")
    plans = [
        MicroBatchPlan(
            step=step,
            stream=stream.visits.name,
            visits=visits,
            update_samples=stream.samples_per_step,
        )
        for stream in streams
        for visits in stream.step(step)
    ]
    return plans[rank::world_size]


def _group(buckets: npt.NDArray[np.int32], size: int) -> Rows:
    """Positions, put together so that rows of the result share a bucket wherever that is possible.

    Args:
        buckets: One number per draw; their count is a multiple of ``size``.
        size: Length of the rows of the result.
    """
    order = np.argsort(buckets, kind="stable")
    ordered = buckets[order]
    _, firsts, counts = np.unique(ordered, return_index=True, return_counts=True)
    # Place of each draw within its bucket; those beyond the last full batch are left over.
    place = np.arange(len(order)) - np.repeat(firsts, counts)
    is_left_over = place >= np.repeat(counts - counts % size, counts)
    return np.concatenate([order[~is_left_over], order[is_left_over]]).reshape(-1, size)
