"""What a run is recognised by."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from deepgen.config.codec import compared_values, flattened, to_values
from deepgen.config.data import DataConfig
from deepgen.config.stage import StageConfig
from deepgen.config.train import CheckpointConfig, ComputeConfig, LoggingConfig, ParallelConfig
from deepgen.train.identity import RunIdentity


def identity(config: StageConfig) -> RunIdentity:
    return RunIdentity(compared=flattened(compared_values(config)), settings=to_values(config))


def test_settings_that_may_change_within_a_run_are_reported_and_not_compared() -> None:
    before = StageConfig(data=DataConfig(folder=Path("images")))
    after = replace(
        before,
        output=Path("elsewhere"),
        data=DataConfig(folder=Path("moved"), max_bad_fraction=0.5),
        compute=ComputeConfig(compile=True),
        parallel=ParallelConfig(sharding="full"),
        checkpoint=CheckpointConfig(keep=9),
        logging=LoggingConfig(every=1),
    )
    mine, theirs = identity(after), identity(before)
    mine.check_same(theirs, Path("checkpoint"))
    changed = mine.changed_settings(to_values(before))
    assert [each.partition(" ")[0] for each in changed] == [
        "output",
        "data.folder",
        "data.max_bad_fraction",
        "compute.compile",
        "parallel.sharding",
        "checkpoint.keep",
        "logging.every",
    ]
    assert "checkpoint.keep is 9, was 3" in changed


def test_whatever_else_changes_the_weights_is_compared() -> None:
    compared = identity(StageConfig()).compared
    assert {
        *("steps", "seed", "microbatch_size", "ema_decay", "stage", "freeze_vlm", "padding"),
        *("data.side", "data.caption_drop", "data.cached_latents", "flow.levels"),
        *("optimizer.kind", "optimizer.lr", "lora.rank", "compute.precision"),
    } <= compared.keys()
    assert not any(name.startswith(("checkpoint.", "logging.", "parallel.")) for name in compared)
