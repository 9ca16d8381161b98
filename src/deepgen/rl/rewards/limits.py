"""When missing rewards end a run: too many, for too long."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deepgen.config.checks import check_at_least, check_fraction
from deepgen.errors import TrainingError


@dataclass(frozen=True, kw_only=True, slots=True)
class FailureLimits:
    """How much of a reward may be missing."""

    window: int = 50
    """Iterations over which the fraction of missing groups is taken."""
    window_fraction: float = 0.05
    """Most of the groups that may be missing in a full window."""
    iteration_fraction: float = 0.5
    """An iteration in which more groups than this are missing is bad."""
    bad_iterations: int = 3
    """Bad iterations in a row that end the run."""

    def __post_init__(self) -> None:
        check_at_least("window", self.window, 1)
        check_at_least("bad_iterations", self.bad_iterations, 1)
        check_fraction("window_fraction", self.window_fraction)
        check_fraction("iteration_fraction", self.iteration_fraction)


class FailureWatch:
    """Counts missing groups of all processes together, iteration by iteration."""

    def __init__(self, limits: FailureLimits | None = None) -> None:
        self.limits = limits or FailureLimits()
        self._recent: dict[str, deque[tuple[int, int]]] = defaultdict(
            lambda: deque(maxlen=self.limits.window)
        )
        self._bad: dict[str, int] = defaultdict(int)

    def add(
        self, counts: Mapping[str, tuple[int, int]], reasons: Mapping[str, str] | None = None
    ) -> None:
        """Add an iteration.

        Args:
            counts: By reward, how many groups it is missing in, and how many it was asked for.
            reasons: The last one by reward, for the message.

        Raises:
            TrainingError: A reward is missing more often than the limits allow.
        """
        limits = self.limits
        for name, (missing, groups) in counts.items():
            if not groups:
                continue
            why = (reasons or {}).get(name, "")
            why = f"; the last reason: {why}" if why else ""
            recent = self._recent[name]
            recent.append((missing, groups))
            self._bad[name] = (
                self._bad[name] + 1 if missing > limits.iteration_fraction * groups else 0
            )
            if self._bad[name] >= limits.bad_iterations:
                raise TrainingError(
                    f"the reward {name} is missing for more than {limits.iteration_fraction:.0%} "
                    f"of the groups in {self._bad[name]} iterations in a row{why}; repair what "
                    "computes it, then resume"
                )
            failed, asked = (sum(column) for column in zip(*recent, strict=True))
            if len(recent) == limits.window and failed > limits.window_fraction * asked:
                raise TrainingError(
                    f"the reward {name} is missing for {failed} of {asked} groups in the last "
                    f"{limits.window} iterations, more than {limits.window_fraction:.0%}{why}; "
                    "repair what computes it, then resume"
                )

    def state(self) -> dict[str, Any]:
        """What a resumed run needs of it; JSON."""
        return {
            "recent": {name: [list(each) for each in rows] for name, rows in self._recent.items()},
            "bad": dict(self._bad),
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Continue from the state of a checkpoint."""
        for name, rows in state["recent"].items():
            self._recent[name].extend((missing, groups) for missing, groups in rows)
        self._bad.update(state["bad"])
