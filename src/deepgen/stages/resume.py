"""What a run settles when it begins, and keeps however it goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from deepgen.config.codec import read_values, updated
from deepgen.config.stage import StageConfig, default_passes
from deepgen.data.dataset import DataSet
from deepgen.data.latents import MomentsCache, weights_hash
from deepgen.errors import DataError
from deepgen.stages.run_folder import SETTINGS, has_checkpoints
from deepgen.train.checkpoints import Checkpoint, open_checkpoint
from deepgen.train.parallel.distributed import Processes
from deepgen.vae import LatentCodec


def settle(
    config: StageConfig, world_size: int, begun: Mapping[str, Any] | None = None
) -> StageConfig:
    """Decide what a configuration leaves open.

    Passes per update depend on the processes, see :func:`deepgen.config.stage.default_passes`. As
    totals they belong to the run: on another number of processes it goes on with the same updates.

    Args:
        config: The stage; what it does say stays. Whether moments are cached is only taken from
            the run that is taken up again; else :func:`settle_moments` decides it.
        world_size: Processes that train together.
        begun: Settings of the run that is taken up again, if one is.

    Raises:
        ValueError: Those settings are none.
    """
    known = {} if begun is None else begun
    drawings, edits = default_passes(config.stage, world_size)
    passes = {"drawing_microbatches": drawings, "edit_microbatches": edits}
    values: dict[str, Any] = {
        name: count if known.get(name) is None else known[name]
        for name, count in passes.items()
        if getattr(config, name) is None
    }
    if config.moments == "auto" and "moments" in known:
        values["moments"] = known["moments"]
    return updated(config, values, name="the settings that the run began with")


def settle_moments(
    config: StageConfig, data: DataSet, codec: LatentCodec, side: int, processes: Processes
) -> tuple[StageConfig, MomentsCache | None]:
    """Decide whether images are encoded at every visit, or were beforehand.

    The run keeps to that, since moments are rounded when they are cached.

    Args:
        config: The stage.
        data: What is trained on.
        codec: Its VAE.
        side: Images are brought to about ``side * side`` pixels.
        processes: Those that train together.

    Returns:
        The stage with ``always`` or ``never``, and the cache in the first case.

    Raises:
        DataError: There is no cache and there should be, or not for all processes.
    """
    cache = None
    if config.moments != "never":
        try:
            cache = MomentsCache.open(data, vae_hash=weights_hash(codec), side=side)
        except DataError as cause:
            if config.moments == "always":
                raise DataError(f"this run learns from cached moments, but {cause}") from None
    found = processes.gather(cache is not None)
    if any(found) and not all(found):
        raise DataError(
            f"only some processes find the cached moments of {data.folder}; let all see the same "
            "files, or say --moments never"
        )
    return replace(config, moments="never" if cache is None else "always"), cache


def begun_settings(output: Path, start: Checkpoint | None) -> Mapping[str, Any] | None:
    """Settings of the run that is taken up again; None where one begins.

    To be read by one process for all, which might find different files.

    Args:
        output: Folder of the run.
        start: Where a run without a checkpoint of its own begins, if not at nothing.

    Raises:
        CheckpointError: Only checkpoints know them, and none is whole.
        ValueError: They cannot be read.
    """
    if has_checkpoints(output):
        path = output / SETTINGS
        return read_values(path) if path.exists() else open_checkpoint(output).values("config")
    return None if start is None else start.values("config")
