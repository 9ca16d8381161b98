"""Settings that are decided when a run begins, and kept when it is resumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from deepgen.config.codec import read_values, updated
from deepgen.config.data import CachedLatents
from deepgen.config.rl import blank_config
from deepgen.config.stage import STAGES, StageConfig
from deepgen.data.dataset import DataSet
from deepgen.data.latents import LatentCache, weights_hash
from deepgen.errors import DataError
from deepgen.stages.run_folder import SETTINGS, has_checkpoints
from deepgen.train.checkpoints import Checkpoint, open_checkpoint
from deepgen.train.parallel.distributed import Processes
from deepgen.vae import LatentCodec


def resolve_settings(
    config: StageConfig, world_size: int, begun: StageConfig | None = None
) -> StageConfig:
    """Decide what a configuration leaves open.

    The default micro-batches per step depend on the number of processes, see
    :class:`deepgen.config.stage.StageDescription`. Once decided, their totals belong to the run:
    resumed on another number of processes, it makes the same steps.

    Args:
        config: The stage; what is set in it stays. Whether latents are cached is only taken from
            the run that is resumed; otherwise :func:`resolve_latent_cache` decides.
    """
    t2i, edit = STAGES[config.stage].microbatches(world_size)
    data = config.data
    if begun is not None:
        t2i = t2i if begun.t2i_microbatches is None else begun.t2i_microbatches
        edit = edit if begun.edit_microbatches is None else begun.edit_microbatches
        if data.cached_latents == "auto":
            data = replace(data, cached_latents=begun.data.cached_latents)
    return replace(
        config,
        data=data,
        t2i_microbatches=t2i if config.t2i_microbatches is None else config.t2i_microbatches,
        edit_microbatches=edit if config.edit_microbatches is None else config.edit_microbatches,
    )


def resolve_latent_cache(
    config: StageConfig, data: DataSet, codec: LatentCodec, side: int, processes: Processes
) -> tuple[StageConfig, LatentCache | None]:
    """Decide whether latents come from the cache, or images are encoded whenever they are used.

    It cannot change within a run, since cached latents are rounded.

    Returns:
        The stage with ``always`` or ``never``, and the cache in the first case.

    Raises:
        DataError: There is no cache and there should be, or not for all processes.
    """
    cache = None
    if config.data.cached_latents != "never":
        try:
            cache = LatentCache.open(data, vae_hash=weights_hash(codec), side=side)
        except DataError as cause:
            if config.data.cached_latents == "always":
                raise DataError(f"this run uses cached latents, but {cause}") from None
    found = processes.gather(cache is not None)
    if any(found) and not all(found):
        raise DataError(
            f"only some processes find the cached latents of {data.folder}; give all access to the "
            "same files, or use --cached-latents never"
        )
    choice: CachedLatents = "never" if cache is None else "always"
    return replace(config, data=replace(config.data, cached_latents=choice)), cache


def stored_settings(output: Path, start: Checkpoint | None) -> StageConfig | None:
    """Settings of the run that is resumed; None where one begins.

    To be read by one process for all, since processes might find different files.

    Args:
        start: Checkpoint of another run that a run without checkpoints starts from.

    Raises:
        CheckpointError: Only checkpoints know them, and none is whole.
        ValueError: They cannot be read, or are those of another version of deepgen.
    """
    path: Path
    values: Mapping[str, object]
    if not has_checkpoints(output):
        if start is None:
            return None
        path, values = start.path, start.values("config")
    elif (output / SETTINGS).exists():
        path = output / SETTINGS
        values = read_values(path)
    else:
        path, values = output, open_checkpoint(output).values("config")
    try:
        return updated(blank_config(values.get("stage")), values, name=str(path))
    except ValueError as cause:
        raise ValueError(
            f"{cause}; another version of deepgen began this run: finish it with that version, or "
            "start over in another --output"
        ) from None
