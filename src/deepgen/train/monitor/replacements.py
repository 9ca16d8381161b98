"""Samples that could not be read, and those that replaced them: part of what a run learned from.

The log is read when a run is resumed, so that the same samples are replaced again even if
their files have been repaired in the meantime.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from deepgen.reading import MAX_LINES_BYTES, parse_json, read_text

Entry = dict[str, Any]
"""One replacement: its step, the sample, the other sample, the reason."""


@runtime_checkable
class ReplacementSource(Protocol):
    """Batches whose samples may have to be replaced."""

    def take_replacements(self) -> list[Entry]:
        """Those in the micro-batches returned since the last call."""

    def count_replacements(self, entries: Sequence[Entry]) -> None:
        """Add those of all processes in a step, which may turn out to be too many."""

    def replay(self, entries: Sequence[Entry]) -> None:
        """Replace these samples by the same others again, readable or not."""


class ReplacementLog:
    """The replacements of a run, a JSON line each.

    Args:
        path: The file; lines are appended.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: list[Entry] = []

    def read(self) -> list[Entry]:
        """Entries of earlier starts of the run; a line that a kill has cut off is removed."""
        if not self.path.exists():
            return []
        lines = read_text(self.path, limit=MAX_LINES_BYTES).splitlines(keepends=True)
        self.entries = [parse_json(line) for line in lines if line.endswith("\n")]
        if lines and not lines[-1].endswith("\n"):
            temporary = self.path.with_suffix(".tmp")
            temporary.write_text("".join(lines[:-1]), encoding="utf-8")
            temporary.replace(self.path)
        return self.entries

    def clear(self) -> None:
        """Delete the entries of a start that reached no checkpoint."""
        self.path.unlink(missing_ok=True)

    def note(self, entries: Sequence[Entry]) -> None:
        """Append new entries. If the disk is full, they are lost and the run continues."""
        new = [each for each in entries if each not in self.entries]
        if not new:
            return
        self.entries = [*self.entries, *new]
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(each) + "\n" for each in new)
        except OSError as cause:
            warnings.warn(f"{self.path} cannot be written: {cause.strerror}", stacklevel=2)
