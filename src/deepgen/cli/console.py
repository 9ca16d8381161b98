"""Output of the commands: results on standard output, lines and progress on standard error."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

Advance = Callable[[], None]


class OutputClosedError(Exception):
    """Whoever reads standard output has closed it, as ``head`` does."""


def print_line(text: str) -> None:
    """Print one line on standard error, if that is open; line breaks become spaces.

    Control characters, as in names of files, are escaped: terminals obey them.
    """
    line = "".join(map(_visible, " ".join(text.split())))
    try:
        encoding = sys.stderr.encoding or "utf-8"
        sys.stderr.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        sys.stderr.flush()
    except (AttributeError, BrokenPipeError):
        # Closed: there is nobody to tell.
        return


def _visible(character: str) -> str:
    is_control = character < " " or "\x7f" <= character < "\xa0"
    return ascii(character)[1:-1] if is_control else character


def print_result(text: str) -> None:
    """Print a result on standard output; characters it cannot encode are escaped.

    Raises:
        OutputClosedError: It is a pipe that nobody reads any more.
    """
    out = sys.stdout
    try:
        encoding = out.encoding or "utf-8"
        out.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        out.flush()
    except (AttributeError, BrokenPipeError):
        raise OutputClosedError from None


def print_bytes(data: bytes) -> None:
    """Write binary data to standard output.

    Raises:
        OutputClosedError: It is a pipe that nobody reads any more.
    """
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except (AttributeError, BrokenPipeError):
        raise OutputClosedError from None


def counted(number: int, noun: str) -> str:
    """A number with its noun, such as "1 file" or "2,000 files"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines with aligned columns, those of numbers (below their heading) to the right."""
    columns = []
    for cells in zip(*rows, strict=True):
        width = max(len(cell) for cell in cells)
        numbers = all(_is_number(cell) or cell in ("", "-") for cell in cells[1:])
        columns.append([cell.rjust(width) if numbers else cell.ljust(width) for cell in cells])
    return ["  ".join(line).rstrip() for line in zip(*columns, strict=True)]


def _is_number(cell: str) -> bool:
    return cell.removesuffix("%").replace(",", "").replace(".", "", 1).isdecimal()


@contextmanager
def waiting(word: str) -> Iterator[None]:
    """Show at once, on a terminal, that a command has been understood to be one; then remove it."""
    shown = bool(word) and not word.startswith("-") and is_terminal(sys.stderr)
    if shown:
        sys.stderr.write(f"{word} ...\r")
        sys.stderr.flush()
    try:
        yield
    finally:
        if shown:
            sys.stderr.write(" " * (len(word) + 4) + "\r")
            sys.stderr.flush()


SECONDS_BETWEEN_LINES = 15.0
"""Of progress where there is no terminal."""

RECENT_STEPS = 1000
"""Of the last so many the later half decides what time is left."""


@contextmanager
def progress_bar(
    description: str,
    steps: int | None,
    *,
    done: int = 0,
    lines: ProgressLines | None = None,
    first_is_slow: bool = False,
) -> Iterator[Advance]:
    """Progress with the time left; yields a function that advances it by one step.

    On a terminal a bar; elsewhere a line from time to time, none for what is done before the first.

    Args:
        description: Text before the bar.
        steps: Their total number; None if unknown.
        done: Steps that earlier bars have shown.
        lines: Printed elsewhere, and shared with those bars.
        first_is_slow: The first step, such as one that compiles, says nothing of the others.
    """
    if not is_terminal(sys.stderr):
        shown = lines or ProgressLines(description, steps, first_is_slow=first_is_slow)
        shown.description = description
        yield shown.advance
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task(description, total=steps, completed=done)
        is_first = first_is_slow

        def advance() -> None:
            nonlocal is_first
            if is_first:
                # Also forgets how long it took.
                bar.reset(task, total=steps, completed=done + 1)
                is_first = False
            else:
                bar.advance(task)

        yield advance


class ProgressLines:
    """Progress as lines on standard error, for logs.

    Args:
        description: What is being done.
        steps: Their total number; None if unknown.
        counted: Whether steps mean something to the user, and are shown.
        first_is_slow: As of :func:`progress_bar`; what time is left is not said after it.
        seconds: Between two lines.
        clock: Seconds from any start.
        write: Prints a line.
    """

    def __init__(
        self,
        description: str,
        steps: int | None,
        *,
        counted: bool = True,
        first_is_slow: bool = False,
        seconds: float = SECONDS_BETWEEN_LINES,
        clock: Callable[[], float] = time.monotonic,
        write: Callable[[str], None] = print_line,
    ) -> None:
        self.description, self._steps = description, steps
        self._counted, self._seconds = counted, seconds
        self._first_is_slow = first_is_slow
        self._clock, self._write = clock, write
        self._done = 0
        self._last = clock()
        self._times = deque([self._last], maxlen=RECENT_STEPS)
        """When the last steps ended, and the first began."""

    def advance(self) -> None:
        """Count one step, and print a line if the last one is old enough."""
        self._done += 1
        now = self._clock()
        if self._first_is_slow and self._done == 1:
            self._times.clear()
            self._last = now
        self._times.append(now)
        if now - self._last < self._seconds or self._done == self._steps:
            return
        self._last = now
        count = f": {self._done:,}" if self._counted else ""
        if self._steps is None:
            self._write(f"{self.description}{count}")
            return
        if self._counted:
            count += f" of {self._steps:,}"
        # By the later half of the steps, since the first ones may be slow.
        middle = (len(self._times) - 1) // 2
        each = (now - self._times[middle]) / max(1, len(self._times) - 1 - middle)
        left = each * (self._steps - self._done)
        self._write(f"{self.description}{count}, {duration(left)} left")


def duration(seconds: float) -> str:
    """A time in two units at most, such as 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def is_terminal(stream: Any) -> bool:
    """Whether a stream is open and a terminal."""
    return bool(stream is not None and not stream.closed and stream.isatty())
