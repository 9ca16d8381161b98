"""How the forward passes of an update are shared among processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from deepgen.config.stage import StageConfig
from deepgen.data.dataset import DataSet
from deepgen.data.loader import TaskPlan
from deepgen.data.records import Task
from deepgen.errors import DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class Sharing:
    """What falls to each process."""

    fewest: int
    """Passes per update of the process with fewest."""
    most: int
    """Passes per update of the process with most; all wait for it."""
    idle_share: float
    """Of the time of all processes, if every pass takes equally long."""


def sharing(tasks: Mapping[Task, TaskPlan], world_size: int) -> Sharing:
    """Deal out the passes of an update, one by one.

    >>> sharing({"t2i": TaskPlan(microbatch_size=4, microbatches=6)}, 4)
    Sharing(fewest=1, most=2, idle_share=0.25)
    """
    passes = sum(each.microbatches for each in tasks.values())
    most = -(-passes // world_size)
    return Sharing(
        fewest=passes // world_size, most=most, idle_share=1 - passes / (most * world_size)
    )


def shared_tasks(config: StageConfig, data: DataSet, world_size: int) -> dict[Task, TaskPlan]:
    """How much of which task goes into an update; tasks that the data lack are left out.

    Args:
        config: The stage; its passes are settled.
        data: What is trained on.
        world_size: Processes that share an update.

    Raises:
        DataError: Nothing is left.
        ValueError: Less is left than there are processes.
    """
    passes: dict[Task, int | None] = {
        "t2i": config.t2i_microbatches,
        "edit": config.edit_microbatches,
    }
    tasks = {
        task: TaskPlan(microbatch_size=config.microbatch_size, microbatches=count)
        for task, count in passes.items()
        if count and len(data.rows(task=task, split="train"))
    }
    if not tasks:
        raise DataError(f"{data.folder} has no samples of the tasks that are to be trained")
    found = sum(each.microbatches for each in tasks.values())
    if found < world_size:
        raise ValueError(
            f"an update of {found} micro-batches cannot be divided among {world_size} processes; "
            "give --t2i-microbatches and --edit-microbatches that add up to a multiple of "
            f"{world_size} over the tasks in {data.folder}, or start {found} processes at most"
        )
    return tasks
