"""What a run reports: means over some updates, a JSON line each."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class MetricsLog:
    """Gathers the reports of updates and writes their means.

    A run that was taken up again goes on in the middle of a mean, and behind the last line that
    its checkpoint knows of: the log is that of an unbroken run.

    Args:
        path: The log; lines are appended.
        every: Updates per line.
    """

    def __init__(self, path: Path, every: int) -> None:
        self.path = path
        self.every = every
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._since = time.perf_counter()

    def add(self, step: int, report: Mapping[str, float]) -> None:
        """Take the report of an update, and write a line when it is time."""
        for name, value in report.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] = self._counts.get(name, 0) + 1
        if step % self.every:
            return
        now = time.perf_counter()
        means = {name: value / self._counts[name] for name, value in self._sums.items()}
        self.note({"step": step, **means, "steps_per_second": self.every / (now - self._since)})
        self._sums, self._counts, self._since = {}, {}, now

    def note(self, line: Mapping[str, Any]) -> None:
        """Append a line. A full disc costs the line, not the run."""
        try:
            with self.path.open("a", encoding="utf-8") as log:
                log.write(json.dumps(line) + "\n")
        except OSError as cause:
            warnings.warn(f"{self.path} cannot be written: {cause.strerror}", stacklevel=2)

    def state(self) -> dict[str, Any]:
        """The mean that is being gathered."""
        return {"sums": self._sums, "counts": self._counts}

    def resume(self, step: int, state: Mapping[str, Any]) -> None:
        """Go on behind an update, as if what came after it had never been written."""
        self._sums, self._counts = dict(state["sums"]), dict(state["counts"])
        if not self.path.exists():
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
