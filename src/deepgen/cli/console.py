"""Output of the commands: results on standard output, lines and progress on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

Advance = Callable[[], None]


def print_line(text: str) -> None:
    """Print one line on standard error; line breaks become spaces."""
    line = " ".join(text.split())
    encoding = sys.stderr.encoding or "utf-8"
    sys.stderr.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    sys.stderr.flush()


def print_result(text: str) -> None:
    """Print a result on standard output; characters it cannot encode are escaped."""
    out = sys.stdout
    encoding = out.encoding or "utf-8"
    out.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    out.flush()


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines with aligned columns, those of numbers (below their heading) to the right."""
    columns = []
    for cells in zip(*rows, strict=True):
        width = max(len(cell) for cell in cells)
        numbers = all(cell.replace(",", "").isdecimal() or cell in ("", "-") for cell in cells[1:])
        columns.append([cell.rjust(width) if numbers else cell.ljust(width) for cell in cells])
    return ["  ".join(line).rstrip() for line in zip(*columns, strict=True)]


@contextmanager
def progress_bar(description: str, steps: int | None) -> Iterator[Advance]:
    """A progress bar, on terminals only; yields a function that advances it by one step.

    Args:
        description: Text before the bar.
        steps: Their total number; None if unknown.
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
