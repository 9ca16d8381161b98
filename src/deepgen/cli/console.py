"""What people see on standard error: single lines, and a bar with the time left."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[[], None]


def print_line(text: str) -> None:
    """One line on standard error, whatever characters and line breaks came with the text."""
    line = " ".join(text.split())
    encoding = sys.stderr.encoding or "utf-8"
    sys.stderr.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    sys.stderr.flush()


@contextmanager
def progress_bar(description: str, steps: int | None) -> Iterator[Advance]:
    """Show ``steps`` steps, where someone watches; the function that comes back counts one.

    Without ``steps``, nobody knows how many there will be.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task(description, total=steps)
        yield lambda: bar.advance(task)
