"""What a run is recognised by."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deepgen.config.codec import compared_values, flattened, to_values
from deepgen.config.data import DataConfig
from deepgen.config.stage import StageConfig
from deepgen.config.train import (
    CheckpointConfig,
    ComputeConfig,
    LoggingConfig,
    LoraConfig,
    ParallelConfig,
)
from deepgen.errors import CheckpointError
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


def test_a_new_run_may_start_from_another_with_other_hyperparameters_and_says_which() -> None:
    before = StageConfig()
    after = replace(
        before,
        steps=7,
        optimizer=replace(before.optimizer, lr=0.5),
        data=DataConfig(caption_drop=0.3),
    )
    mine, theirs = identity(after), identity(before)
    mine.check_same(theirs, Path("checkpoint"), is_branch=True)
    changed = mine.changed_settings(to_values(before), is_branch=True)
    assert f"optimizer.lr is 0.5, was {before.optimizer.lr}" in changed
    assert [each.partition(" ")[0] for each in changed] == [
        "steps",
        "data.caption_drop",
        "optimizer.lr",
    ]
    with pytest.raises(CheckpointError, match=r"data\.caption_drop"):
        mine.check_same(theirs, Path("checkpoint"))


@pytest.mark.parametrize(
    "change",
    [
        {"ema_decay": 0.9},
        {"optimizer": replace(StageConfig().optimizer, kind="muon")},
        {"microbatch_size": 3},
    ],
)
def test_a_new_run_keeps_what_the_stored_state_depends_on(change: dict[str, Any]) -> None:
    mine, theirs = identity(replace(StageConfig(), **change)), identity(StageConfig())
    with pytest.raises(CheckpointError, match=next(iter(change))):
        mine.check_same(theirs, Path("checkpoint"), is_branch=True)


def test_another_rank_is_named_instead_of_the_tensors_it_changes() -> None:
    settings = [StageConfig(lora=LoraConfig(rank=rank)) for rank in (8, 16)]
    mine, theirs = (
        replace(identity(each), shapes={f"lora_{i}": (each.lora.rank, 4) for i in range(99)})
        for each in settings
    )
    with pytest.raises(CheckpointError, match=r"--lora\.rank 16, this one has 8") as refusal:
        mine.check_same(theirs, Path("checkpoint"))
    assert "lora_0" not in str(refusal.value)
