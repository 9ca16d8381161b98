"""Images of ``eval generate`` by many processes: Ray Data (extra ``ray``).

Each item is a task of its own, so processes that are faster make more; images are those of one
process, since each depends on its prompt, seed and settings alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from deepgen.eval.run.folder import LineWriter, RunFolder
from deepgen.eval.run.generation import (
    Progress,
    check_run,
    check_sources,
    complete_item,
    generate_item,
    missing_images,
)
from deepgen.eval.run.model import image_generator
from deepgen.eval.run.planned import PlannedRun
from deepgen.ray_cluster import mapped


class RunWorker:
    """Makes items of a run in a process of its own, with one model.

    Args:
        run: The run, by absolute paths.
        path: Of the model.
        device: As ``devices.pick_device`` returns it.
    """

    def __init__(self, run: PlannedRun, path: Path, device: str) -> None:
        self._items = {item.id: item for item in run.items}
        self._run, self._lines = run, LineWriter(run.folder, 0)
        self._generate_image = image_generator(path, device)

    def __call__(self, row: Mapping[str, Any]) -> int:
        """Make the images ``missing`` of ``item``; their number."""
        item, missing = self._items[row["item"]], row["missing"]
        generate_item(self._run, item, missing, self._generate_image, self._lines)
        return len(missing)


def generate_on_ray(
    run: PlannedRun, path: Path, device: str, *, processes: int, advance: Callable[[], None]
) -> Progress:
    """Make what is missing of a run on the cluster of ``RAY_ADDRESS``, or on one of this machine.

    Args:
        run: The run, begun.
        path: Of the model; as the run's folder, at the same place on all machines.
        device: As ``devices.pick_device`` returns it; the same on all machines.
        processes: That share the items.
        advance: Called once per image, new or existing.

    Raises:
        BenchmarkError: A source is missing.
    """
    check_sources(run.ordered, run.sources)
    rows: list[dict[str, Any]] = []
    there = run.expected
    for item, missing in missing_images(run, run.ordered):
        if missing:
            rows.append({"item": item.id, "missing": missing})
            there -= len(missing)
        else:
            # Files that the official scorer wants besides the images.
            complete_item(run, item)
    for _ in range(there):
        advance()
    remote = replace(
        run, folder=RunFolder(run.folder.path.absolute()), sources=run.sources.absolute()
    )
    if rows:
        arguments = (remote, path.absolute(), device)
        on_gpu = int(device == "cuda")
        for count in mapped(rows, RunWorker, arguments, processes=processes, num_gpus=on_gpu):
            for _ in range(count):
                advance()
    return check_run(run)
