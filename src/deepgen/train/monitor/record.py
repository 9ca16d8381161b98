"""All that a run writes down beside its checkpoints: metrics, substitutions, warnings."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deepgen.train.monitor.journal import Entry, Journal
from deepgen.train.monitor.logs import METRICS, SUBSTITUTIONS
from deepgen.train.monitor.metrics import MetricsLog, Observer
from deepgen.train.monitor.report import Report
from deepgen.train.monitor.speed import Clock, Patience, Speed
from deepgen.train.parallel.distributed import Processes


class RunRecord:
    """The record of a run; of several processes the first writes, the others tell it what to.

    Args:
        folder: Holds ``metrics.jsonl`` and ``substitutions.jsonl``.
        log_every: Updates between lines of metrics; each is the mean since the last.
        processes: Those that train together.
        clock: Of this process.
        observers: Told how the run gets on, on the first process.
        matrix_rate: See :class:`deepgen.train.monitor.speed.Speed`.
    """

    def __init__(
        self,
        folder: Path,
        log_every: int,
        *,
        processes: Processes,
        clock: Clock,
        observers: Sequence[Observer] = (),
        matrix_rate: float | None = None,
    ) -> None:
        is_first = processes.is_first
        self.processes = processes
        path = folder / METRICS if is_first else None
        self.metrics = MetricsLog(path, log_every, observers if is_first else ())
        self.journal = Journal(folder / SUBSTITUTIONS)
        self._clock = clock
        self._speed = Speed(clock, processes, matrix_rate)
        self._patience = Patience()

    def clear(self) -> None:
        """Begin anew, as if no start of the run had ever written anything."""
        self.metrics.clear()
        if self.processes.is_first:
            self.journal.clear()

    def resume(self, step: int, state: Mapping[str, Any]) -> None:
        """Go on behind an update, from the state in its checkpoint."""
        self.metrics.resume(step, state)

    def begin(self, done: int, steps: int) -> Sequence[Entry]:
        """Start writing, and return the substitutions of earlier starts of the run."""
        known = self.processes.by_first(self.journal.read)
        self.metrics.begin(done, steps)
        # What came before, loading and comparing, is no part of any update.
        self._clock.take()
        return known

    def add(
        self,
        step: int,
        means: Mapping[str, float],
        report: Report,
        work: Mapping[str, float],
        notes: Sequence[Mapping[str, Any]],
    ) -> None:
        """Write down what is to be known about an update, and now and then about many.

        Args:
            step: Updates done.
            means: Of the update.
            report: What all processes had to say about it.
            work: What this process did for it.
            notes: What is worth a line of its own.
        """
        # Of an update that was left out, losses may be no numbers.
        self.metrics.add(step, means, {} if means["skipped"] else report.groups)
        self._speed.add(work)
        for note in notes:
            self.metrics.note({"step": step, **note})
        self._note_substitutions(report.substitutions)
        if not self.metrics.is_due(step):
            return
        speed = self._speed.line()
        self.metrics.write(step, speed)
        wait = self._patience.judge(self.metrics.every, speed["data_wait"])
        if wait is not None and self.processes.is_first:
            warnings.warn(
                f"{wait:.0%} of the time the run waits for samples; deepgen data cache spares "
                "decoding and encoding, and a faster disk helps too",
                stacklevel=3,
            )

    def state(self) -> dict[str, Any]:
        """What the next start has to know."""
        return self.metrics.state()

    def end(self) -> None:
        """Tell the observers that it is over."""
        self.metrics.end()

    def _note_substitutions(self, entries: Sequence[Entry]) -> None:
        """Count and list samples that others stood in for, and warn of the first."""
        is_known = self.metrics.count("replaced", len(entries))
        if not entries or not self.processes.is_first:
            return
        self.journal.note(entries)
        if not is_known:
            warnings.warn(
                f"{entries[0]['message']}; another sample stands in for it. All such are listed "
                f"in {self.journal.path}",
                stacklevel=4,
            )
