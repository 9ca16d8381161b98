"""What someone at a terminal sees of a training run: one line that is always up to date."""

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
    """Updates done, loss, speed and the time left; off a terminal only where a run goes on.

    Args:
        console: Where it is drawn; by default standard error.
    """

    def __init__(self, console: Console | None = None) -> None:
        console = console or Console(stderr=True)
        self._console = console
        self._bar = Progress(
            TextColumn("update"),
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
        """Draw it, with what earlier starts of the run have done, which is also said."""
        if 0 < done < steps:
            self._console.print(f"goes on after update {done} of {steps}", highlight=False)
        self._task = self._bar.add_task("", total=steps, completed=done, loss="", speed="")
        self._bar.start()

    def updated(self, step: int, report: Mapping[str, float]) -> None:
        """Move on by an update; one that was left out keeps the loss before it."""
        if self._task is None:
            return
        self._bar.update(self._task, completed=step)
        if "loss" in report:
            self._bar.update(self._task, loss=f"loss {report['loss']:.4f}")

    def logged(self, step: int, line: Mapping[str, float]) -> None:
        """Show how fast the last updates were."""
        if self._task is None:
            return
        words = []
        if "speed/images_per_second" in line:
            words.append(f"{line['speed/images_per_second']:.3g} images/s")
        words.append(f"waits {line['speed/data_wait']:.0%}")
        self._bar.update(self._task, speed=", " + ", ".join(words))

    def end(self) -> None:
        """Take it away."""
        self._bar.stop()
