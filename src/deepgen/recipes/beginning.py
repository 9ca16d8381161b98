"""What a run settles when it begins, and keeps on however many processes it goes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepgen.config.codec import read_values, updated
from deepgen.config.stage import PASSES, StageConfig
from deepgen.train.checkpoints import Checkpoint


def settle(
    config: StageConfig, world_size: int, begun: Mapping[str, Any] | None = None
) -> StageConfig:
    """Decide what a configuration leaves open.

    Passes per update are those of one process times the processes. As totals they belong to the
    run: on another number of processes it goes on with the same updates.

    Args:
        config: The stage; what it does say stays.
        world_size: Processes that train together.
        begun: Settings of the run that is taken up again, if one is.

    Raises:
        ValueError: Those settings are none.
    """
    known = {} if begun is None else begun
    drawings, edits = PASSES[config.stage]
    passes = {"drawing_microbatches": drawings, "edit_microbatches": edits}
    values = {
        name: world_size * count if known.get(name) is None else known[name]
        for name, count in passes.items()
        if getattr(config, name) is None
    }
    return updated(config, values, name="the settings that the run began with")


def begun_settings(output: Path, start: Checkpoint | None) -> Mapping[str, Any] | None:
    """Settings of the run that is taken up again; None where one begins.

    Args:
        output: Folder of the run.
        start: Where a run without a checkpoint of its own begins, if not at nothing.

    Raises:
        ValueError: They cannot be read.
    """
    if has_begun(output):
        path = output / "config.yaml"
        return read_values(path) if path.exists() else None
    return None if start is None else start.values("config")


def has_begun(output: Path) -> bool:
    """Whether a run has left something to go on from."""
    return any(output.glob("checkpoints/step_*"))
