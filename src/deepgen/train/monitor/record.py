"""What a run writes besides its checkpoints: metrics, replacements, warnings."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deepgen.train.monitor.logs import METRICS, REPLACEMENTS
from deepgen.train.monitor.metrics import MetricsLog, Observer
from deepgen.train.monitor.replacements import Entry, ReplacementLog
from deepgen.train.monitor.report import StepReport
from deepgen.train.monitor.speed import Clock, DeviceRates, SlowDataAlarm, Speed
from deepgen.train.parallel.distributed import Processes


class RunRecord:
    """The record of a run; of several processes the first writes.

    Args:
        folder: Holds ``metrics.jsonl`` and ``replacements.jsonl``.
        log_every: Steps between lines of metrics; each is the mean since the last.
        processes: Those that train together.
        clock: Of this process.
        observers: Informed of the progress, on the first process.
        rates: See :class:`deepgen.train.monitor.speed.Speed`.
    """

    def __init__(
        self,
        folder: Path,
        log_every: int,
        *,
        processes: Processes,
        clock: Clock,
        observers: Sequence[Observer] = (),
        rates: DeviceRates | None = None,
    ) -> None:
        is_rank_zero = processes.is_rank_zero
        self.processes = processes
        path = folder / METRICS if is_rank_zero else None
        self.metrics = MetricsLog(path, log_every, observers if is_rank_zero else ())
        self.replacements = ReplacementLog(folder / REPLACEMENTS)
        self._clock = clock
        self._speed = Speed(clock, processes, rates)
        self._slow_data = SlowDataAlarm()

    def clear(self) -> None:
        """Delete what an earlier start of the run has written."""
        self.metrics.clear()
        if self.processes.is_rank_zero:
            self.replacements.clear()

    def resume(self, step: int, state: Mapping[str, Any]) -> None:
        """Resume after a step, from the state in its checkpoint."""
        self.metrics.resume(step, state)

    def begin(self, done: int, steps: int) -> Sequence[Entry]:
        """Start writing, and return the replacements of earlier starts of the run."""
        known = self.processes.on_rank_zero(self.replacements.read)
        self.metrics.begin(done, steps)
        # Loading and comparing, before this, are not part of any step.
        self._clock.take()
        return known

    def add(
        self,
        step: int,
        means: Mapping[str, float],
        report: StepReport,
        work: Mapping[str, float],
        notes: Sequence[Mapping[str, Any]],
    ) -> None:
        """Add a step, and write a line of metrics where one is due.

        Args:
            step: Steps done.
            means: Values of the step.
            report: Of all processes.
            work: Of this process.
            notes: Lines of their own.
        """
        # Losses of a skipped step may not be numbers.
        self.metrics.add(step, means, {} if means["skipped"] else report.means)
        self._speed.add(work)
        for note in notes:
            self.metrics.note({"step": step, **note})
        self._note_replacements(report.replacements)
        if not self.metrics.is_due(step):
            return
        speed = self._speed.line()
        self.metrics.write(step, speed)
        wait = self._slow_data.add(self.metrics.every, speed["data_wait"])
        if wait is not None and self.processes.is_rank_zero:
            warnings.warn(
                f"{wait:.0%} of the time the run waits for samples; deepgen data cache saves "
                "decoding and encoding, and a faster disk helps too",
                stacklevel=3,
            )

    def state(self) -> dict[str, Any]:
        """What a resumed run needs of it."""
        return self.metrics.state()

    def end(self) -> None:
        """Inform the observers of the end."""
        self.metrics.end()

    def _note_replacements(self, entries: Sequence[Entry]) -> None:
        """Count and list replaced samples, and warn of the first."""
        is_known = self.metrics.count("replaced", len(entries))
        if not entries or not self.processes.is_rank_zero:
            return
        self.replacements.note(entries)
        if not is_known:
            warnings.warn(
                f"{entries[0]['message']}; another sample replaces it. All such are listed "
                f"in {self.replacements.path}",
                stacklevel=4,
            )
