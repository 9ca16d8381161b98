"""The record of a plan: one JSON file, complete after every task."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from deepgen.images.io import atomic_file
from gpu.plan import Row

FORMAT = 1

FILE = "record.json"

State = Literal["done", "part", "failed", "running", "cut off"]
"""``running`` in the file of a plan that is not running means that the row was cut off."""


class Record:
    """Rows by the name of their task; each says which start of the plan measured it."""

    def __init__(self, path: Path, plan: str, tasks: Sequence[str]) -> None:
        """Read the record, if there is one; rows that were running are marked as cut off.

        Raises:
            ValueError: The file is not a record of this plan.
        """
        self.path = path
        self.tasks = tuple(tasks)
        self.content: dict[str, Any] = {
            "format": FORMAT,
            "plan": plan,
            "state": "",
            "starts": [],
            "rows": {},
        }
        if path.exists():
            self.content = _read(path, plan)
        for row in self.rows.values():
            if row["state"] == "running":
                row["state"] = "cut off"

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        """All rows so far."""
        rows: dict[str, dict[str, Any]] = self.content["rows"]
        return rows

    def start(self, environment: Mapping[str, Any]) -> None:
        """Note the machine and versions of one more start."""
        self.content["starts"].append(dict(environment))
        self._write()

    def begin(self, task: str) -> None:
        """Mark a row as running, keeping what an earlier start has measured of it."""
        row = self.rows.setdefault(task, {})
        row.pop("error", None)
        row.update(state="running", start=len(self.content["starts"]) - 1)
        self._write()

    def finish(
        self, task: str, state: State, seconds: float, result: Row | None = None, error: str = ""
    ) -> None:
        """Fill a row; without a result, the one of an earlier start stays."""
        row = self.rows[task]
        row.update(state=state, seconds=round(row.get("seconds", 0.0) + seconds, 3))
        if result is not None:
            row["result"] = result
        if error:
            row["error"] = error
        self._write()

    def state_of(self, task: str) -> State | None:
        """None where the task never ran."""
        state: State | None = self.rows.get(task, {}).get("state")
        return state

    def count(self, *states: State) -> int:
        """How many of the plan's tasks are in one of the states."""
        return sum(self.state_of(task) in states for task in self.tasks)

    def _write(self) -> None:
        done = self.count("done")
        total = len(self.tasks)
        self.content["state"] = "complete" if done == total else f"part: {done} of {total} rows"
        # Before the file is touched: a row that JSON cannot hold must not cost the others.
        text = json.dumps(self.content, indent=1, allow_nan=False) + "\n"
        with atomic_file(self.path, overwrite=True) as part:
            part.write_text(text)


def _read(path: Path, plan: str) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        found = content["format"], content["plan"]
        rows = content["rows"]
        readable = all(isinstance(row["state"], str) for row in rows.values())
        readable &= isinstance(content["starts"], list)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a record of a plan; move it away") from error
    if found != (FORMAT, plan) or not readable:
        raise ValueError(
            f"{path} is a record of plan {found[1]} in format {found[0]}, expected {plan} in "
            f"format {FORMAT}; name another folder"
        )
    return content
