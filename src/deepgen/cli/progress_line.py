"""The progress line of a training run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from deepgen.cli.console import ProgressLines

SECONDS_BETWEEN_LINES = 60.0
"""Without a terminal; a run takes hours or days."""


class ProgressLine:
    """Steps done, loss, speed and the time left; without a terminal as lines, once a minute.

    Args:
        folder: Of the run.
        console: Where it is shown; by default standard error.
        clock: Seconds from any start.
    """

    def __init__(
        self,
        folder: Path,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        console = console or Console(stderr=True)
        self._folder, self._console, self._clock = folder, console, clock
        self._steps = 0
        self._loss = ""
        self._lines: ProgressLines | None = None
        self._bar = Progress(
            TextColumn("step"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[loss]}{task.fields[speed]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None

    def begin(self, done: int, steps: int) -> None:
        """Show it, from the step that the run is resumed from."""
        if done >= steps:
            self._print(f"all {steps} steps are done; the run is in {self._folder}")
        else:
            start = f"resuming from step {done}/{steps}" if done else f"training to step {steps}"
            self._print(f"{start}; checkpoints and metrics in {self._folder}")
        self._steps = steps
        if not self._console.is_terminal:
            self._lines = ProgressLines(
                "",
                steps - done,
                counted=False,
                seconds=SECONDS_BETWEEN_LINES,
                clock=self._clock,
                write=self._print,
            )
        self._task = self._bar.add_task("", total=steps, completed=done, loss="", speed="")
        self._bar.start()

    def on_step_end(self, step: int, report: Mapping[str, float]) -> None:
        """Advance by a step; a skipped one keeps the loss before it."""
        if self._task is None:
            return
        self._bar.update(self._task, completed=step)
        if "loss" in report:
            self._loss = f"loss {report['loss']:.4f}"
            self._bar.update(self._task, loss=self._loss)
        if self._lines is not None:
            parts = [f"step {step}/{self._steps}", *([self._loss] if self._loss else [])]
            self._lines.description = ", ".join(parts)
            self._lines.advance()

    def logged(self, step: int, line: Mapping[str, float]) -> None:
        """Show the speed of the last steps."""
        if self._task is None:
            return
        words = []
        if "speed/images_per_second" in line:
            words.append(f"{line['speed/images_per_second']:.3g} images/s")
        if "speed/mfu" in line:
            words.append(f"MFU {line['speed/mfu']:.0%}")
        words.append(f"data wait {line['speed/data_wait']:.0%}")
        self._bar.update(self._task, speed=", " + ", ".join(words))

    def end(self) -> None:
        """Remove it."""
        # rich 14 ends a disabled bar, too, with an empty line.
        if self._console.is_terminal:
            self._bar.stop()

    def _print(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)
