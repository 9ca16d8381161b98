"""The micro-batches of a step, and how processes share them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from deepgen.config.stage import StageConfig
from deepgen.data.dataset import DataSet
from deepgen.data.loader import TaskPlan
from deepgen.data.mixture import MixedData
from deepgen.data.records import Task
from deepgen.errors import DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class MicrobatchSplit:
    """Micro-batches per step of single processes."""

    fewest: int
    """Micro-batches of the process with fewest."""
    most: int
    """Micro-batches of the process with most; all wait for it."""
    idle_fraction: float
    """Fraction of all processes' time spent waiting, if every micro-batch takes equally long."""


def split_microbatches(tasks: Mapping[Task, TaskPlan], world_size: int) -> MicrobatchSplit:
    """Distribute the micro-batches of a step round-robin.

    >>> split_microbatches({"t2i": TaskPlan(microbatch_size=4, microbatches=6)}, 4)
    MicrobatchSplit(fewest=1, most=2, idle_fraction=0.25)
    """
    count = sum(each.microbatches for each in tasks.values())
    if not count:
        # Reinforcement learning without data.
        return MicrobatchSplit(fewest=0, most=0, idle_fraction=0.0)
    most = -(-count // world_size)
    return MicrobatchSplit(
        fewest=count // world_size, most=most, idle_fraction=1 - count / (most * world_size)
    )


def task_plans(config: StageConfig, data: DataSet, world_size: int) -> dict[Task, TaskPlan]:
    """Micro-batches of each task in a step; tasks without samples in the data are left out.

    Raises:
        DataError: Nothing is left, or a source of a mixture would be seen too often.
        ValueError: There are fewer micro-batches than processes, or tasks in another ratio than
            a mixture states.
    """
    counts: dict[Task, int | None] = {
        "t2i": config.t2i_microbatches,
        "edit": config.edit_microbatches,
    }
    assert None not in counts.values(), "the configuration was not settled"
    tasks = {
        task: TaskPlan(microbatch_size=config.microbatch_size, microbatches=count)
        for task, count in counts.items()
        if count and len(data.rows(task=task, split="train"))
    }
    if not tasks:
        raise DataError(f"{data.folder} has no samples of the tasks that are to be trained")
    if isinstance(data, MixedData):
        data.check_ratio({task: each.microbatches for task, each in tasks.items()})
        data.check_passes({task: config.steps * each.samples for task, each in tasks.items()})
    found = sum(each.microbatches for each in tasks.values())
    if found < world_size:
        raise ValueError(
            f"a step of {found} micro-batches cannot be divided among {world_size} processes; use "
            "--t2i-microbatches and --edit-microbatches that add up to a multiple of "
            f"{world_size} over the tasks in {data.folder}, or start {found} processes at most"
        )
    return tasks
