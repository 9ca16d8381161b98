"""The order of a mixture: exact shares of its sources, each in its own shuffled order.

The endless sequence of draws is cut into blocks. Every block has the same whole numbers of draws of
each source, shuffled by a key; so shares are exact up to one draw in a block, whatever the seed,
and any position is computed without those before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from deepgen.data.order import EpochOrder, Rows
from deepgen.data.randomness import key_of, permuted

BLOCK = 10_000
"""Draws of a block; a source has at least one, so that a small one is not forgotten."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """A source of a mixture."""

    source: str
    rows: Rows
    share: float
    """Of the draws, between 0 and 1."""


class MixedOrder(EpochOrder):
    """The endless order of the samples of one task from several sources.

    Args:
        shares: Sum to 1.
        wanted: Rows that may be drawn; sources without any are left out.
    """

    def __init__(self, shares: Sequence[Share], *, seed: int, name: str, wanted: Rows) -> None:
        super().__init__(wanted, seed=seed, name=name)
        kept = [(each, np.intersect1d(each.rows, wanted, assume_unique=True)) for each in shares]
        kept = [(each, rows) for each, rows in kept if len(rows)]
        self.counts = block_counts([each.share for each, _ in kept])
        """Draws of each source in a block."""
        self.sources = [
            EpochOrder(rows, seed=seed, name=f"{name}/{each.source}") for each, rows in kept
        ]
        self._names = [each.source for each, _ in kept]
        self._slots = lru_cache(maxsize=4)(self._make_slots)

    def between(self, first: int, end: int) -> tuple[Rows, Rows]:
        """Rows and epochs at the positions ``first`` to ``end``, without computing any before."""
        rows = np.empty(end - first, dtype=np.int64)
        epochs = np.empty(end - first, dtype=np.int64)
        for block in range(first // BLOCK, -(-end // BLOCK)):
            start = block * BLOCK
            low, high = max(first, start), min(end, start + BLOCK)
            sources, places = self._slots(block)
            sources, places = (
                sources[low - start : high - start],
                places[low - start : high - start],
            )
            for number, order in enumerate(self.sources):
                mine = np.flatnonzero(sources == number)
                if len(mine):
                    found, passes = order.at(places[mine] + block * int(self.counts[number]))
                    rows[low - first + mine] = found
                    epochs[low - first + mine] = passes
        return rows, epochs

    def seen(self, draws: int) -> dict[str, int]:
        """How many of the first draws are of each source."""
        blocks, rest = divmod(draws, BLOCK)
        counts = blocks * self.counts
        if rest:
            sources = self._slots(blocks)[0][:rest]
            counts = counts + np.bincount(sources, minlength=len(counts))
        return dict(zip(self._names, counts.tolist(), strict=True))

    def _make_slots(self, block: int) -> tuple[Rows, Rows]:
        """For each draw of a block its source, and how many draws of that come before it."""
        ordered = np.repeat(np.arange(len(self.counts)), self.counts)
        key = key_of(self.seed, "mixture", self.name, block)
        sources = ordered[permuted(np.arange(BLOCK), BLOCK, key)]
        places = np.empty(BLOCK, dtype=np.int64)
        for number, count in enumerate(self.counts.tolist()):
            places[sources == number] = np.arange(count)
        return sources, places


def block_counts(shares: Sequence[float]) -> npt.NDArray[np.int64]:
    """Whole numbers of draws that sum to a block: largest remainders, and at least one each.

    >>> block_counts([0.25, 0.75]).tolist()
    [2500, 7500]
    """
    exact = np.asarray(shares, dtype=np.float64) * BLOCK
    counts = np.maximum(np.floor(exact).astype(np.int64), 1)
    missing = BLOCK - int(counts.sum())
    if missing < 0:
        # The minimum of the smallest was taken from nobody yet.
        for _ in range(-missing):
            counts[np.argmax(counts)] -= 1
        return counts
    order = np.argsort(np.floor(exact) - exact, kind="stable")
    counts[order[:missing]] += 1
    return counts
