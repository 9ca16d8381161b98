"""Gradients that are far too large, compared with the norms of the last steps."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Sequence

MEMORY = 128
"""Steps that a norm is compared with: enough for a median, few enough to follow the training."""

MIN_HISTORY = 32
"""Norms that must be known before one is called large; those of the first steps vary widely."""

# Median absolute deviations of a normal distribution in its standard deviation.
DEVIATIONS = 1.4826

LOG_THRESHOLD = 6.0
"""Standard deviations above the median from which a norm is worth a line in the log."""

SKIP_THRESHOLD = 50.0
"""Times the median above which a step is skipped: clipping keeps its length small, but its
direction is that of one broken sample."""


class Spikes:
    """The gradient norms of the last steps."""

    def __init__(self) -> None:
        self._norms: deque[float] = deque(maxlen=MEMORY)

    def median(self) -> float | None:
        """Median of the norms; None while there are too few."""
        return statistics.median(self._norms) if len(self._norms) >= MIN_HISTORY else None

    def is_excessive(self, norm: float) -> bool:
        """Whether a step is to be skipped."""
        median = self.median()
        return median is not None and median > 0 and norm > SKIP_THRESHOLD * median

    def is_notable(self, norm: float) -> bool:
        """Whether the norm is far above the usual."""
        median = self.median()
        if median is None:
            return False
        spread = DEVIATIONS * statistics.median(abs(each - median) for each in self._norms)
        return spread > 0 and norm > median + LOG_THRESHOLD * spread

    def add(self, norm: float) -> None:
        """Add the norm of a step that was made."""
        self._norms.append(norm)

    def state(self) -> list[float]:
        """The norms."""
        return list(self._norms)

    def load(self, state: Sequence[float]) -> None:
        """Resume from what :meth:`state` gave."""
        self._norms = deque(state, maxlen=MEMORY)
