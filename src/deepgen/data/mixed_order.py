"""The order of a mixture: exact shares of its sources, each in its own shuffled order.

The endless sequence of draws is cut into blocks, and these into periods. Every block has a whole
number of draws of each source, shuffled by a key: its share rounded down or up, so that the numbers
of a period are exact. So any position is computed without those before it.
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
"""Draws of a block."""

PERIOD = 1000
"""Blocks after which numbers of draws repeat; a source has at least one draw in them."""

SMALLEST = 1 / (BLOCK * PERIOD)
"""Share of the draws that any source has."""

STRIDE = 703
"""Its multiples are spread evenly over the period: the continued fraction of 703 / 1000 has no
number above 2."""


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
        self._before = draws_before([each.share for each, _ in kept])
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
            before = self._drawn_before(block)
            sources, places = self._slots(block)
            sources, places = (
                sources[low - start : high - start],
                places[low - start : high - start],
            )
            for number, order in enumerate(self.sources):
                mine = np.flatnonzero(sources == number)
                if len(mine):
                    found, passes = order.at(places[mine] + before[number])
                    rows[low - first + mine] = found
                    epochs[low - first + mine] = passes
        return rows, epochs

    def seen(self, draws: int) -> dict[str, int]:
        """How many of the first draws are of each source."""
        blocks, rest = divmod(draws, BLOCK)
        counts = self._drawn_before(blocks)
        if rest:
            sources = self._slots(blocks)[0][:rest]
            counts = counts + np.bincount(sources, minlength=len(counts))
        return dict(zip(self._names, counts.tolist(), strict=True))

    def _drawn_before(self, block: int) -> Rows:
        """Draws of each source before a block."""
        periods, rest = divmod(block, PERIOD)
        found: Rows = periods * self._before[-1] + self._before[rest]
        return found

    def _make_slots(self, block: int) -> tuple[Rows, Rows]:
        """For each draw of a block its source, and how many draws of that come before it."""
        counts = self._drawn_before(block + 1) - self._drawn_before(block)
        ordered = np.repeat(np.arange(len(counts)), counts)
        key = key_of(self.seed, "mixture", self.name, block)
        sources = ordered[permuted(np.arange(BLOCK), BLOCK, key)]
        places = np.empty(BLOCK, dtype=np.int64)
        for number, count in enumerate(counts.tolist()):
            places[sources == number] = np.arange(count)
        return sources, places


def draws_before(shares: Sequence[float]) -> npt.NDArray[np.int64]:
    """Draws of each source before each block of a period, and in all of it.

    What a block cannot have whole is dealt out by systematic sampling: each source has an interval
    as long as its remainder, and a block gives one more draw to those that its points fall into.

    Args:
        shares: Of the sources, relative to one another.

    Returns:
        Whole numbers of shape (PERIOD + 1, sources), which ascend from 0.
    """
    whole, rest = np.divmod(whole_counts(shares, BLOCK * PERIOD), PERIOD)
    ends = np.cumsum(rest)
    points = np.arange(PERIOD)[:, None] * STRIDE % PERIOD + np.arange(0, ends[-1], PERIOD)
    extra = np.zeros((PERIOD, len(whole)), dtype=np.int64)
    # A remainder is shorter than the distance of two points, so no source is hit twice.
    extra[np.arange(PERIOD)[:, None], np.searchsorted(ends, points, side="right")] = 1
    return np.concatenate([np.zeros_like(whole)[None], np.cumsum(whole + extra, axis=0)])


def whole_counts(shares: Sequence[float], total: int) -> npt.NDArray[np.int64]:
    """Whole numbers that sum to ``total``: largest remainders, and at least one each.

    >>> whole_counts([0.25, 0.75], 10_000).tolist()
    [2500, 7500]
    """
    exact = np.asarray(shares, dtype=np.float64)
    exact = exact / exact.sum() * total
    counts: Rows = np.maximum(np.floor(exact).astype(np.int64), 1)
    missing = total - int(counts.sum())
    if missing < 0:
        # The minimum of the smallest was taken from nobody yet.
        for _ in range(-missing):
            counts[np.argmax(counts)] -= 1
    order = np.argsort(np.floor(exact) - exact, kind="stable")
    counts[order[: max(missing, 0)]] += 1
    return counts
