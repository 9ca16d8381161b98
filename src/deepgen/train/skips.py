"""Steps that cannot be made: their gradients are thrown away, and too many of them end the run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deepgen.checkpoint.files import listed
from deepgen.errors import TrainingError
from deepgen.train.monitor.spikes import SKIP_THRESHOLD, Spikes
from deepgen.train.objective import Loss

SKIPS_IN_A_ROW = 3
"""Skipped steps in a row that end a run: one is chance, three are a broken model."""

MAX_SKIPPED_FRACTION = 0.001
"""Fraction of all steps so far that may be skipped; the first three are always allowed."""


class Skips:
    """Decides which steps are skipped, and counts them."""

    def __init__(self) -> None:
        self.count = 0
        """Steps skipped since the beginning of the run."""
        self._in_a_row: list[list[str]] = []
        """Ids of the samples of each."""
        self._spikes = Spikes()

    def reason(self, loss: float, norm: float) -> str | None:
        """Why a step is skipped; None if it is made.

        Args:
            loss: Of the step, on all processes.
            norm: Of its gradient, before clipping.
        """
        if not math.isfinite(norm + loss):
            return "no finite loss and gradient"
        if self._spikes.is_excessive(norm):
            return (
                f"a gradient of norm {norm:.3g}, more than {SKIP_THRESHOLD:.0f} times the usual "
                f"{self._spikes.median():.3g}"
            )
        return None

    def record_step(self, norm: float) -> dict[str, Any] | None:
        """Count a step that is made; what the log should note of it, if anything."""
        self._in_a_row.clear()
        notable = self._spikes.is_notable(norm)
        note = {"spike": norm, "usual": self._spikes.median()} if notable else None
        self._spikes.add(norm)
        return note

    def skip(self, step: int, reason: str, samples: Sequence[str]) -> str:
        """Count a step that is skipped, and return a warning.

        Args:
            step: Steps done, this one included.
            reason: What :meth:`reason` gave.
            samples: Ids of those to blame.

        Raises:
            TrainingError: Too many steps have been skipped.
        """
        self.count += 1
        self._in_a_row.append(list(samples))
        if len(self._in_a_row) == SKIPS_IN_A_ROW:
            every = ", ".join(name for names in self._in_a_row for name in names)
            raise TrainingError(
                f"{SKIPS_IN_A_ROW} steps in a row up to {step} were skipped, the last because it "
                f"had {reason}; samples: {every}. Look at these samples, or lower the learning rate"
            )
        if self.count > max(SKIPS_IN_A_ROW, MAX_SKIPPED_FRACTION * step):
            raise TrainingError(
                f"{self.count} of {step} steps were skipped, the last because it had {reason}; at "
                f"most {MAX_SKIPPED_FRACTION:.1%} may be. metrics.jsonl names their samples: look "
                "at them, or lower the learning rate"
            )
        return f"step {step} was skipped, as it had {reason}; samples: {listed(samples)}"

    def state(self) -> dict[str, Any]:
        """What the next step depends on, as plain values."""
        return {
            "skipped": self.count,
            "skipped_in_a_row": [list(each) for each in self._in_a_row],
            "gradient_norms": self._spikes.state(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Resume from what :meth:`state` gave."""
        self.count = state["skipped"]
        self._in_a_row = [list(each) for each in state["skipped_in_a_row"]]
        self._spikes.load(state["gradient_norms"])


def not_finite(losses: Sequence[Loss]) -> Iterator[str]:
    """Ids of the samples whose losses are not finite, or unknown."""
    for loss in losses:
        unknown = [math.nan] * len(loss.sample_ids)
        values = unknown if loss.samples is None else loss.samples.tolist()
        for name, value in zip(loss.sample_ids, values, strict=True):
            if not math.isfinite(value):
                yield name
