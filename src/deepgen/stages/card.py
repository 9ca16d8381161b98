"""What a trained model says about its making: data, licences, counts, and what it began from.

It lies as ``model_card.json`` in the folders of a model and of its adapters, and holds no path of
whoever trained it; the name of the folder that it began from is told, and so are those of sources.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from deepgen.checkpoint.files import CARD_NAME, ModelFolder
from deepgen.checkpoint.hub import EMBEDDED
from deepgen.config.stage import StageConfig
from deepgen.data.loader import Loader
from deepgen.errors import CheckpointError
from deepgen.model import DeepGen


def make_card(
    config: StageConfig,
    loader: Loader,
    model: DeepGen,
    base: Path,
    *,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """The card of a stage's model, before it has been trained.

    Args:
        config: The stage.
        loader: Of its samples.
        model: What is trained.
        base: Folder of what it begins from, whose card is told on.
        settings: Those that decide what the weights become.

    Returns:
        Plain values. ``visits`` are the samples of all updates, by task; ``samples`` are the rows
        that are trained on, by source.
    """
    table = loader.data.table
    columns = ["source", "source_rev", "licence", "redistributable", "task"]
    sources = (
        table.filter(pc.equal(table["split"], "train"))
        .group_by(columns, use_threads=False)
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
        "visits": {task: config.steps * count for task, count in per_update.items()},
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
            if each["task"] in per_update
        ],
        "scheduler_shift": model.schedule.shift,
        "settings": dict(settings),
        "deepgen": version("deepgen-image"),
        "began_from": {**describe_base(config.model, base), "card": read_card(base)},
    }


def read_card(folder: Path) -> dict[str, Any] | None:
    """The card of a model folder, if it has one; one that is damaged is warned of."""
    if not (folder / CARD_NAME).is_file():
        return None
    try:
        return ModelFolder(folder).json(CARD_NAME)
    except CheckpointError as cause:
        warnings.warn(f"{folder}: {cause}; the new model's card does without it", stacklevel=2)
        return None


def describe_base(model: str, base: Path) -> dict[str, str]:
    """What is told of the model that a stage begins from: its name, and the commit of a hub."""
    if model == EMBEDDED:
        return {"model": EMBEDDED}
    if Path(model).expanduser().exists():
        return {"model": base.resolve().name}
    # A hub's models lie in folders by the name of their commit.
    return {"model": model.partition("@")[0], "revision": base.name}
