"""What a run reports: means over some updates, a JSON line each, and whoever looks on."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from deepgen.train.monitor.report import Group


@runtime_checkable
class Observer(Protocol):
    """Someone who is told how a run gets on, and cannot change it."""

    def begin(self, done: int, steps: int) -> None:
        """The run starts, or goes on, behind ``done`` of its ``steps`` updates."""

    def updated(self, step: int, report: Mapping[str, float]) -> None:
        """An update is over."""

    def logged(self, step: int, line: Mapping[str, float]) -> None:
        """A line of means was written; what is nested in it has names with slashes here."""

    def end(self) -> None:
        """The run has ended, for whatever reason."""


class MetricsLog:
    """Gathers the reports of updates and writes their means.

    A run that was taken up again goes on in the middle of a mean, and behind the last line that
    its checkpoint knows of: the log is that of an unbroken run, except for what each line has
    under ``speed``, which is the machine's and not the run's.

    Args:
        path: The log; lines are appended. None where another process writes it.
        every: Updates per line.
        observers: Told too. One that fails is left out from then on, with a warning.
    """

    def __init__(self, path: Path | None, every: int, observers: Sequence[Observer] = ()) -> None:
        self.path = path
        self.every = every
        self._observers = list(observers)
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._totals: dict[str, int] = {}
        self._steps: int | None = None

    def begin(self, done: int, steps: int) -> None:
        """Tell the observers that the run starts or goes on."""
        self._steps = steps
        self._tell(lambda each: each.begin(done, steps))

    def add(
        self, step: int, report: Mapping[str, float], groups: Mapping[str, Group] | None = None
    ) -> None:
        """Take the report of an update.

        Args:
            step: Updates done.
            report: Means of the update.
            groups: Sums over its samples of a kind, and how many there were: in the mean every
                sample counts alike.
        """
        for name, value in report.items():
            self._gather(name, value, 1)
        for name, (value, count) in (groups or {}).items():
            self._gather(f"loss/{name}", value, count)
        self._tell(lambda each: each.updated(step, report))

    def is_due(self, step: int) -> bool:
        """Whether a line is to be written behind this update: so often, and behind the last."""
        return step % self.every == 0 or step == self._steps

    def count(self, name: str, amount: int) -> int:
        """Add to what is counted since the beginning of the run, and return what it was before."""
        before = self._totals.get(name, 0)
        self._totals[name] = before + amount
        return before

    def write(self, step: int, speed: Mapping[str, Any]) -> None:
        """Write a line: the means since the last one, and all totals.

        Args:
            step: Updates done.
            speed: What has to do with the machine alone.
        """
        means = {name: value / self._counts[name] for name, value in self._sums.items()}
        line = {**means, **self._totals, "speed": speed}
        self.note({"step": step, **line})
        self._sums, self._counts = {}, {}
        flat = _flat(line)
        self._tell(lambda each: each.logged(step, flat))

    def note(self, line: Mapping[str, Any]) -> None:
        """Append a line. A full disc costs the line, not the run."""
        if self.path is None:
            return
        try:
            with self.path.open("a", encoding="utf-8") as log:
                log.write(json.dumps(line) + "\n")
        except OSError as cause:
            warnings.warn(f"{self.path} cannot be written: {cause.strerror}", stacklevel=2)

    def end(self) -> None:
        """Tell the observers that it is over."""
        self._tell(lambda each: each.end())

    def state(self) -> dict[str, Any]:
        """The mean that is being gathered, and the totals."""
        return {"sums": self._sums, "counts": self._counts, "totals": self._totals}

    def clear(self) -> None:
        """Take away what a start that came to no checkpoint has written."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def resume(self, step: int, state: Mapping[str, Any]) -> None:
        """Go on behind an update, as if what came after it had never been written."""
        self._sums, self._counts = dict(state["sums"]), dict(state["counts"])
        self._totals = dict(state["totals"])
        if self.path is None or not self.path.exists():
            return
        kept = []
        for line in self.path.read_text("utf-8").splitlines():
            try:
                known = json.loads(line)["step"] <= step
            except ValueError:
                # Cut off by a kill.
                continue
            if known:
                kept.append(line + "\n")
        aside = self.path.with_suffix(".tmp")
        aside.write_text("".join(kept), encoding="utf-8")
        aside.replace(self.path)

    def _gather(self, name: str, value: float, count: int) -> None:
        self._sums[name] = self._sums.get(name, 0.0) + value
        self._counts[name] = self._counts.get(name, 0) + count

    def _tell(self, tell: Callable[[Observer], None]) -> None:
        """Tell all observers something; training goes on without those that fail."""
        for each in list(self._observers):
            try:
                tell(each)
            except Exception as error:
                self._observers.remove(each)
                reason = str(error) or type(error).__name__
                warnings.warn(
                    f"{type(each).__name__} has failed ({reason}); training goes on without it",
                    stacklevel=3,
                )


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Numbers of nested mappings, their names joined by slashes."""
    found: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}/")
        else:
            found[f"{prefix}{name}"] = float(value)
    return found
