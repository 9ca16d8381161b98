"""The progress line of a training run."""

from __future__ import annotations

from collections.abc import Mapping

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


class ProgressLine:
    """Steps done, loss, speed and the time left; without a terminal only that a run is resumed.

    Args:
        console: Where it is shown; by default standard error.
    """

    def __init__(self, console: Console | None = None) -> None:
        console = console or Console(stderr=True)
        self._console = console
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
        if 0 < done < steps:
            self._console.print(f"resuming from step {done}/{steps}", highlight=False)
        self._task = self._bar.add_task("", total=steps, completed=done, loss="", speed="")
        self._bar.start()

    def on_step_end(self, step: int, report: Mapping[str, float]) -> None:
        """Advance by a step; a skipped one keeps the loss before it."""
        if self._task is None:
            return
        self._bar.update(self._task, completed=step)
        if "loss" in report:
            self._bar.update(self._task, loss=f"loss {report['loss']:.4f}")

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
        self._bar.stop()
