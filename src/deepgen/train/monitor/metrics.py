"""Metrics of a run: means over some steps, a JSON line each, and observers."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from deepgen.reading import MAX_LINES_BYTES, parse_json, read_text
from deepgen.train.monitor.report import SumAndCount


@runtime_checkable
class Observer(Protocol):
    """Receives the progress of a run, without influence on it."""

    def begin(self, done: int, steps: int) -> None:
        """The run starts, or resumes, after ``done`` of its ``steps`` steps."""

    def on_step_end(self, step: int, report: Mapping[str, float]) -> None:
        """A step is over."""

    def logged(self, step: int, line: Mapping[str, float]) -> None:
        """A line of means was written; nested names are joined by slashes."""

    def end(self) -> None:
        """The run has ended, for whatever reason."""


class MetricsLog:
    """Accumulates the reports of steps and writes their means.

    A resumed run continues in the middle of a mean, after the last line before its checkpoint: its
    log is that of an uninterrupted run, except for ``speed``, which depends on the machine.

    Args:
        path: The log; lines are appended. None where another process writes it.
        every: Steps per line.
        observers: Informed too. One that fails is dropped, with a warning.
    """

    def __init__(self, path: Path | None, every: int, observers: Sequence[Observer] = ()) -> None:
        self.path = path
        self.every = every
        self._observers = list(observers)
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int | float] = {}
        self._totals: dict[str, int] = {}
        self._steps: int | None = None

    def begin(self, done: int, steps: int) -> None:
        """Inform the observers of the start."""
        self._steps = steps
        self._inform(lambda each: each.begin(done, steps))

    def add(
        self, step: int, values: Mapping[str, float], means: Mapping[str, SumAndCount] | None = None
    ) -> None:
        """Take the report of a step.

        Args:
            step: Steps done.
            values: In the mean of a line every step counts alike.
            means: Sums and counts: in the mean of a line every sample, token or whatever is
                counted counts alike.
        """
        means = means or {}
        for name, value in values.items():
            self._gather(name, value, 1)
        for name, (value, count) in means.items():
            self._gather(name, value, count)
        report = {**values, **_divided(means)}
        self._inform(lambda each: each.on_step_end(step, report))

    def is_due(self, step: int) -> bool:
        """Whether a line is due after this step: every so often, and after the last."""
        return step % self.every == 0 or step == self._steps

    def count(self, name: str, amount: int) -> int:
        """Add to what is counted since the beginning of the run, and return what it was before."""
        before = self._totals.get(name, 0)
        self._totals[name] = before + amount
        return before

    def write(self, step: int, speed: Mapping[str, Any]) -> None:
        """Write a line: the means since the last one, and all totals.

        Args:
            step: Steps done.
            speed: What depends on the machine.
        """
        means = _divided({name: (each, self._counts[name]) for name, each in self._sums.items()})
        line = {**means, **self._totals, "speed": speed}
        self.note({"step": step, **line})
        self._sums, self._counts = {}, {}
        flat = _flat(line)
        self._inform(lambda each: each.logged(step, flat))

    def note(self, line: Mapping[str, Any]) -> None:
        """Append a line. If the disk is full, it is lost and the run continues."""
        if self.path is None:
            return
        try:
            with self.path.open("a", encoding="utf-8") as log:
                log.write(json.dumps(line) + "\n")
        except OSError as cause:
            warnings.warn(f"{self.path} cannot be written: {cause.strerror}", stacklevel=2)

    def end(self) -> None:
        """Inform the observers of the end."""
        self._inform(lambda each: each.end())

    def state(self) -> dict[str, Any]:
        """The sums of the next line, and the totals."""
        return {"sums": self._sums, "counts": self._counts, "totals": self._totals}

    def clear(self) -> None:
        """Delete what a start that reached no checkpoint has written."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def resume(self, step: int, state: Mapping[str, Any]) -> None:
        """Resume after a step, and delete the lines of later ones."""
        self._sums, self._counts = dict(state["sums"]), dict(state["counts"])
        self._totals = dict(state["totals"])
        if self.path is None or not self.path.exists():
            return
        kept = []
        for line in read_text(self.path, limit=MAX_LINES_BYTES).splitlines():
            try:
                known = parse_json(line)["step"] <= step
            except ValueError:
                # Cut off by a kill.
                continue
            if known:
                kept.append(line + "\n")
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text("".join(kept), encoding="utf-8")
        temporary.replace(self.path)

    def _gather(self, name: str, value: int | float, count: int | float) -> None:
        self._sums[name] = self._sums.get(name, 0.0) + value
        self._counts[name] = self._counts.get(name, 0) + count

    def _inform(self, inform: Callable[[Observer], None]) -> None:
        """Inform all observers, and drop those that fail."""
        for each in list(self._observers):
            try:
                inform(each)
            except Exception as error:
                self._observers.remove(each)
                reason = str(error) or type(error).__name__
                warnings.warn(
                    f"{type(each).__name__} has failed ({reason}); training continues without it",
                    stacklevel=3,
                )


def _divided(means: Mapping[str, SumAndCount]) -> dict[str, float]:
    """Those of which anything was counted."""
    return {name: value / count for name, (value, count) in means.items() if count}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Numbers of nested mappings, their names joined by slashes."""
    found: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}/")
        else:
            found[f"{prefix}{name}"] = float(value)
    return found
