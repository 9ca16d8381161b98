"""Gradients that are out of all proportion, told by the norms of the updates before."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Sequence

MEMORY = 128
"""Updates that a norm is compared with: enough for a median, few enough to follow the training."""

FIRST_VERDICT = 32
"""Norms that must be known before one is called large; they are wild in the first updates."""

# Median absolute deviations of a normal distribution in its standard deviation.
DEVIATIONS = 1.4826

NOTABLE = 6.0
"""Standard deviations above the median from which a norm is worth a line in the log."""

EXCESSIVE = 50.0
"""Times the median above which an update is left out: clipping keeps its length small, but its
direction is that of one broken sample."""


class Spikes:
    """The gradient norms of the last updates, and what is out of proportion to them."""

    def __init__(self) -> None:
        self._norms: deque[float] = deque(maxlen=MEMORY)

    def median(self) -> float | None:
        """Median of the norms; None while there are too few."""
        return statistics.median(self._norms) if len(self._norms) >= FIRST_VERDICT else None

    def is_excessive(self, norm: float) -> bool:
        """Whether an update is to be left out."""
        median = self.median()
        return median is not None and median > 0 and norm > EXCESSIVE * median

    def is_notable(self, norm: float) -> bool:
        """Whether the norm is far from what was usual."""
        median = self.median()
        if median is None:
            return False
        spread = DEVIATIONS * statistics.median(abs(each - median) for each in self._norms)
        return spread > 0 and norm > median + NOTABLE * spread

    def add(self, norm: float) -> None:
        """Remember the norm of an update that was made."""
        self._norms.append(norm)

    def state(self) -> list[float]:
        """All that it remembers."""
        return list(self._norms)

    def load(self, state: Sequence[float]) -> None:
        """Go on from what :meth:`state` gave."""
        self._norms = deque(state, maxlen=MEMORY)
