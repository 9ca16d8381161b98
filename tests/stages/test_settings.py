"""Settings of a run, and what is refused before its first step."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from deepgen.cli.main import main
from deepgen.cli.train import parse_train
from deepgen.config.data import DataConfig
from deepgen.config.stage import StageConfig
from deepgen.config.train import ComputeConfig, FlowConfig, OptimizerConfig, ParallelConfig
from deepgen.recipes.lora import lora
from deepgen.recipes.pretrain import pretrain
from deepgen.recipes.sft import sft
from deepgen.recipes.smoke import smoke
from deepgen.stages.batches import FlowBatches
from deepgen.stages.build import build
from deepgen.stages.plan import plan
from deepgen.stages.resume import resolve_settings, stored_settings
from deepgen.train.objective import FlowObjective
from deepgen.train.parallel.distributed import Processes
from tests.stages.commands import arguments_for


def test_the_plan_counts_what_is_trained_and_visited(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "never"
    assert main([*arguments_for(data, output, "--dry-run"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["trained"]) == {"think tokens and bridge", "language model", "DiT"}
    assert found["samples"] == {"t2i": 6, "edit": 3}
    assert found["samples_per_step"] == {"t2i": 2, "edit": 1}
    assert 0 < found["activation_bytes"] < found["static_bytes"]
    assert found["epochs"] == {"t2i": round(8 / 6, 2), "edit": round(4 / 3, 2)}
    assert not output.exists()


def test_the_plan_says_what_falls_to_each_process(data: Path, tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    config = replace(sft(), data=DataConfig(folder=data), output=tmp_path / "never")
    even = plan(resolve_settings(config, 8), device=cpu, world_size=8)
    assert (even.microbatches_per_process, even.idle_fraction) == ((3, 3), 0)
    assert even.microbatches == {"t2i": 16, "edit": 8}
    assert even.samples_per_step == {"t2i": 64, "edit": 32}
    uneven = plan(resolve_settings(config, 2), device=cpu, world_size=4)
    assert (uneven.microbatches_per_process, uneven.idle_fraction) == ((1, 2), 0.25)
    assert uneven.samples_per_step == {"t2i": 16, "edit": 8}


def test_an_update_with_too_little_for_all_processes_is_refused(data: Path, tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    config = resolve_settings(
        replace(sft(), data=DataConfig(folder=data), output=tmp_path / "never"), 1
    )
    with pytest.raises(ValueError, match=r"a step of 3 micro-batches .* among 8 proc") as caught:
        plan(config, device=cpu, world_size=8)
    assert "multiple of 8" in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="cannot be divided among 8 processes"):
        build(config, device=cpu, processes=Processes(rank=7, world_size=8))


def test_settings_of_a_run_that_never_saved_are_forgotten(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("t2i_microbatches: 7\n")
    assert stored_settings(tmp_path, None) is None


@pytest.mark.parametrize(
    ("more", "part"),
    [
        (["--data", "nowhere"], "not a data set"),
        (["--config", "nowhere.yaml"], "cannot be read"),
        (["--model", "nowhere"], "no folder nowhere"),
        (["--steps", "0"], "steps must be at least 1"),
        (["--keep-every", "0"], "keep_every must be at least 1"),
        (["--save-minutes", "nan"], "save_minutes must be a positive number"),
        (["--t2i-microbatches", "0", "--edit-microbatches", "0"], "no samples of the tasks"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_line(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], part: str
) -> None:
    assert main([*arguments_for(data, tmp_path / "run"), *more]) == 2
    error = capsys.readouterr().err
    assert part in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_noise_levels_are_drawn_and_counted_as_asked_for(data: Path, tmp_path: Path) -> None:
    flow = FlowConfig(levels="logit_normal", weighting="cosmap", round_sigmas=True)
    config = replace(sft(), data=DataConfig(folder=data), output=tmp_path, flow=flow)
    run = build(resolve_settings(config, 1), device=torch.device("cpu"))
    objective = run.trainer.objective
    assert isinstance(objective, FlowObjective)
    assert (objective.levels, objective.weighting) == ("logit_normal", "cosmap")
    assert objective.round_sigmas
    # They make another run.
    assert run.trainer.identity.compared["flow.weighting"] == "cosmap"


def test_an_update_of_adapters_is_as_large_on_any_number_of_processes() -> None:
    for config in (lora(), StageConfig(stage="lora")):
        for world_size in (1, 4):
            settled = resolve_settings(config, world_size)
            assert (settled.t2i_microbatches, settled.edit_microbatches) == (4, 4)


def test_the_published_updates_are_those_of_64_processes() -> None:
    stage1, stage2 = resolve_settings(pretrain(), 64), resolve_settings(sft(), 64)
    assert (stage1.edit_microbatches, stage1.t2i_microbatches) == (64, 192)
    assert (stage2.edit_microbatches, stage2.t2i_microbatches) == (64, 128)
    assert stage1.microbatch_size * (64 + 192) == 1024
    assert stage2.microbatch_size * (64 + 128) == 768
    assert (pretrain().optimizer.lr, sft().optimizer.lr) == (1e-4, 5e-5)


def test_what_full_sharding_cannot_compute_is_refused_with_the_way_out(data: Path) -> None:
    config = replace(
        smoke(),
        data=DataConfig(folder=data),
        parallel=ParallelConfig(sharding="full"),
        padding="batch",
    )
    with pytest.raises(ValueError, match=r"use --padding none, or --sharding optimizer"):
        build(config, device=torch.device("cpu"), processes=Processes(rank=0, world_size=2))


@pytest.mark.parametrize(
    ("changes", "way_out"),
    [
        ({"compute": ComputeConfig(compile=True)}, r"omit --compile, or use --sharding none"),
        ({"optimizer": OptimizerConfig(kind="muon")}, r"use --sharding none, or --optimizer"),
    ],
)
def test_what_cannot_be_divided_is_refused_with_the_way_out(
    data: Path, changes: dict[str, Any], way_out: str
) -> None:
    config = replace(
        smoke(),
        data=DataConfig(folder=data),
        parallel=ParallelConfig(sharding="optimizer"),
        **changes,
    )
    with pytest.raises(ValueError, match=way_out) as caught:
        build(config, device=torch.device("cpu"), processes=Processes(rank=0, world_size=2))
    assert "\n" not in str(caught.value)


def test_the_recipe_is_what_was_typed_whatever_settings_are_called() -> None:
    command = parse_train(["lora", "--output", "sft", "--data", "smoke", "--steps", "3"])
    assert command.recipe == "lora"
    assert command.settings == replace(
        lora(), output=Path("sft"), data=DataConfig(folder=Path("smoke")), steps=3
    )


def test_a_file_of_another_stage_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("stage: sft\nsteps: 3\n")
    assert main(["train", "pretrain", "--config", str(file)]) == 2
    error = capsys.readouterr().err
    assert "stage sft, but pretrain trains stage pretrain; use deepgen train sft" in error
    assert error.count("\n") == 1
    assert parse_train(["smoke", "--config", str(file)]).settings.steps == 3


def test_help_tells_of_all_recipes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    assert "deepgen train mini --help" in " ".join(capsys.readouterr().out.replace("│", "").split())


def test_the_share_of_damaged_samples_is_a_setting_that_may_change_within_a_run(data: Path) -> None:
    config = replace(smoke(), data=DataConfig(folder=data, max_bad_fraction=0.2), output=Path("x"))
    run = build(resolve_settings(config, 1), device=torch.device("cpu"))
    stream = run.trainer.monitoring.replacement_source
    assert isinstance(stream, FlowBatches)
    assert stream.loader.options.max_bad_fraction == 0.2
    assert "data.max_bad_fraction" not in run.trainer.identity.compared
    with pytest.raises(ValueError, match=r"max_bad_fraction must be from 0 to 1, got 1\.5"):
        DataConfig(max_bad_fraction=1.5)
