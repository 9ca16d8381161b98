"""The card of a trained model: data, licences, counts, settings, and the model it started from.

It is ``model_card.json`` in the folders of a model and of its adapters. It contains no paths, only
the names of the base model's folder and of the sources.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from deepgen.checkpoint.files import CARD_NAME, ModelFolder
from deepgen.checkpoint.hub import EMBEDDED
from deepgen.config.stage import StageConfig
from deepgen.data.loader import Loader
from deepgen.errors import CheckpointError
from deepgen.model import DeepGen


def make_card(
    config: StageConfig,
    loader: Loader | None,
    model: DeepGen,
    base: Path,
    *,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """The card of a stage's model, before training.

    Args:
        loader: None where there are no data.
        base: Folder of the model that training starts from, whose card is included.

    Returns:
        Plain values. ``samples_seen`` counts the samples of all steps, by task; ``samples`` the
        rows of the data, by source.
    """
    per_step = {} if loader is None else loader.options.tasks
    sources = [] if loader is None else _sources(loader)
    return {
        "stage": config.stage,
        "steps": config.steps,
        "samples_seen": {task: config.steps * each.samples for task, each in per_step.items()},
        "data": [
            {
                "source": each["source"],
                "revision": each["source_rev"],
                "licence": each["licence"],
                "redistributable": each["redistributable"],
                "task": each["task"],
                "samples": each["count_all"],
            }
            for each in sources
            if each["task"] in per_step
        ],
        "scheduler_shift": model.schedule.shift,
        "settings": dict(settings),
        "deepgen": version("deepgen-image"),
        "base_model": {**describe_base(config.model, base), "card": read_card(base)},
    }


def _sources(loader: Loader) -> list[dict[str, Any]]:
    """The rows of the data by source, licence and task."""
    table = loader.data.table
    # A mixture may use only some of the rows of its members.
    used = np.zeros(len(table), dtype=bool)
    used[loader.data.rows(split="train")] = True
    columns = ["source", "source_rev", "licence", "redistributable", "task"]
    found: list[dict[str, Any]] = (
        table.select(columns)
        .filter(pa.array(used))
        .group_by(columns, use_threads=False)
        .aggregate([([], "count_all")])
        .to_pylist()
    )
    return found


def read_card(folder: Path) -> dict[str, Any] | None:
    """The card of a model folder; None with a warning where it is damaged."""
    if not (folder / CARD_NAME).is_file():
        return None
    try:
        return ModelFolder(folder).json(CARD_NAME)
    except CheckpointError as cause:
        warnings.warn(f"{folder}: {cause}; the new card is written without it", stacklevel=2)
        return None


def describe_base(model: str, base: Path) -> dict[str, str]:
    """Name of the model that training starts from, and its commit on a hub."""
    if model == EMBEDDED:
        return {"model": EMBEDDED}
    if Path(model).expanduser().exists():
        return {"model": base.resolve().name}
    # Folders of a hub's models are named by commit.
    return {"model": model.partition("@")[0], "revision": base.name}
