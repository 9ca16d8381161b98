"""What a trained model says about its making: data, licences, counts, and what it began from.

It lies as ``model_card.json`` in the model's folder, and names no folder of whoever trained it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from deepgen.checkpoint.files import CARD_NAME
from deepgen.config.stage import StageConfig
from deepgen.data.loader import Loader
from deepgen.model import DeepGen


def make_card(
    config: StageConfig,
    loader: Loader,
    model: DeepGen,
    base: Path,
    *,
    settings: Mapping[str, Any],
    left_out: int,
) -> dict[str, Any]:
    """The card of a stage's model.

    Args:
        config: The stage.
        loader: Of its samples.
        model: What was trained.
        base: Folder of what it began from, whose card is told on.
        settings: Those that decide what the weights become.
        left_out: Updates that could not be used.

    Returns:
        Plain values. ``visits`` are forward and backward passes of samples, by task; ``samples``
        are those that could be visited, by source.
    """
    table = loader.data.table.select(["source", "source_rev", "licence", "task", "split"])
    sources = (
        table.filter(pc.equal(table["split"], "train"))
        .group_by(["source", "source_rev", "licence", "task"], use_threads=False)
        .aggregate([([], "count_all")])
        .to_pylist()
    )
    per_update = {
        str(task): each.microbatch_size * each.microbatches
        for task, each in loader.options.tasks.items()
    }
    return {
        "stage": config.stage,
        "updates": config.steps,
        "updates_left_out": left_out,
        "visits": {task: config.steps * count for task, count in per_update.items()},
        "data": [
            {
                "source": each["source"],
                "revision": each["source_rev"],
                "licence": each["licence"],
                "task": each["task"],
                "samples": each["count_all"],
            }
            for each in sources
            if each["task"] in per_update
        ],
        "scheduler_shift": model.schedule.shift,
        "settings": dict(settings),
        "deepgen": version("deepgen-image"),
        "began_from": {
            "model": Path(config.model).name if Path(config.model).exists() else config.model,
            "card": _card_of(base),
        },
    }


def _card_of(folder: Path) -> dict[str, Any] | None:
    """The card of a model folder, if it has one that can be read."""
    try:
        values = json.loads((folder / CARD_NAME).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None
