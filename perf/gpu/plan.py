"""What a plan is: named tasks in order, each of which fills one row of the plan's record.

A plan is a module of this package with a constant ``PLAN``, listed in :data:`PLANS`::

    def _golden(context: Context) -> Row:
        ...
        return {"max_error": 3e-6, "limit": 1e-5}

    PLAN = Plan(name="verify", tasks=(Task(name="golden", run=_golden, seconds=20),))

``gpu.run`` runs it within nine minutes, in as many starts as it takes. What a task raises becomes
the error of its row, and the next task runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

PLANS = ("check", "verify", "tables", "mini")
"""Modules of this package that have a ``PLAN`` of the same name."""

RUN_SECONDS = 540.0
"""How long one start of a plan may take; machines are often rented for ten minutes at a time."""

LONGEST_TASK = 480.0

Row = dict[str, Any]
"""What a task has measured, in types that JSON has. ``"state": "part"`` says that the task stopped
at the deadline and is to be called again at the next start; ``"ok": False`` that the result is
wrong, which fails the row; all other keys are the task's own, see :mod:`gpu.result`."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a task is given."""

    device: torch.device
    toy: bool
    """Run at toy size: the rehearsal on a CPU. Every row is filled, its numbers mean nothing."""
    folder: Path
    """The plan's own folder, kept from start to start: images, checkpoints, logs."""
    golden: Path | None
    """The reference numbers (``golden/``), if they are at hand."""
    renders: Path | None
    """The drawings of the mini's world, rendered beforehand, if they are at hand."""
    deadline: float
    """``time.monotonic()`` at which this start ends; a task that can be continued stops before."""

    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()


@dataclass(frozen=True, kw_only=True)
class Task:
    """One row of a record."""

    name: str
    run: Callable[[Context], Row]
    seconds: float
    """Estimated at full size. The task starts only if that much time is left; for a task that can
    be continued, the least time in which it gets anywhere."""
    gib: float = 0.0
    """GPU memory that it needs at full size; on a smaller GPU its row fails without a try."""

    def __post_init__(self) -> None:
        if not 0 <= self.seconds <= LONGEST_TASK:
            raise ValueError(
                f"task {self.name}: seconds must be from 0 to {LONGEST_TASK:.0f}, got "
                f"{self.seconds}; split it, or return a row with state 'part'"
            )


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Tasks in the order in which they run."""

    name: str
    tasks: tuple[Task, ...]

    def __post_init__(self) -> None:
        names = [task.name for task in self.tasks]
        if len(set(names)) < len(names):
            raise ValueError(f"plan {self.name}: names of tasks must differ, got {names}")


def load_plan(name: str) -> Plan:
    """The plan of that name.

    Raises:
        ValueError: There is none.
    """
    if name not in PLANS:
        raise ValueError(f"there is no plan {name}; plans: {', '.join(PLANS)}")
    plan: Plan = import_module(f"gpu.{name}").PLAN
    return plan
