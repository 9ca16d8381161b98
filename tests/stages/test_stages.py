"""The stages as a user runs them: by the command line, on a folder of images, with the mini."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from deepgen.checkpoint.adapters import merge_lora
from deepgen.checkpoint.folder import load_folder
from deepgen.checkpoint.hub import resolve
from deepgen.cli.main import main
from deepgen.config.data import DataConfig
from deepgen.config.stage import StageConfig
from deepgen.config.train import ComputeConfig
from deepgen.data.dataset import DataSet
from deepgen.recipes.pretrain import pretrain
from deepgen.recipes.sft import sft
from deepgen.recipes.smoke import smoke
from deepgen.stages.batches import FlowBatches
from deepgen.stages.build import build
from deepgen.stages.card import describe_base, read_card
from deepgen.stages.microbatches import task_plans
from deepgen.stages.resume import resolve_settings, stored_settings
from deepgen.train.checkpoints import open_checkpoint
from tests.stages.commands import arguments_for


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    output = tmp_path_factory.mktemp("run") / "whole"
    assert main(arguments_for(data, output, "--sample-prompts", "a red square")) == 0
    return output


def weights(run: Path) -> dict[str, torch.Tensor]:
    files = sorted((run / "model").glob("*/*.safetensors"))
    return {
        f"{file.parent.name}.{name}": value
        for file in files
        for name, value in load_file(file).items()
    }


def test_a_run_leaves_a_model_its_adapters_images_and_its_settings(trained: Path) -> None:
    modes = {each.stat().st_mode & 0o777 for each in trained.rglob("*") if each.is_file()}
    assert modes == {(trained / "config.yaml").stat().st_mode & 0o777}
    adapters = json.loads((trained / "lora" / "adapter_config.json").read_text())
    # Another order in another process would be other bytes.
    assert adapters["target_modules"] == sorted(adapters["target_modules"])
    assert len(list((trained / "samples").glob("*.png"))) == 2
    assert len((trained / "metrics.jsonl").read_text().splitlines()) == 4
    assert "steps: 4" in (trained / "config.yaml").read_text()
    index = json.loads((trained / "model" / "model_index.json").read_text())
    assert index["provenance"]["transformer"] == "sft, 4 steps"
    assert index["provenance"]["vae"].startswith("autoencoder")


def card(run: Path, part: str = "model") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / part / "model_card.json").read_text())
    return found


def test_a_model_tells_what_it_was_made_from(data: Path, trained: Path, tmp_path: Path) -> None:
    told = card(trained)
    assert (told["stage"], told["steps"], told["skipped_steps"]) == ("sft", 4, 0)
    assert told["samples_seen"] == {"t2i": 8, "edit": 4}
    assert {(each["source"], each["licence"], each["task"]) for each in told["data"]} == {
        ("rows", "unknown", "t2i"),
        ("rows", "unknown", "edit"),
    }
    assert not any(each["redistributable"] for each in told["data"])
    counted = sum(each["samples"] for each in told["data"])
    assert counted == len(DataSet.open(data).rows(split="train"))
    assert told["settings"]["optimizer"]["lr"] == 1e-4
    assert told["base_model"]["model"] == "mini"
    assert told["base_model"]["card"]["licence"] == "CC-BY-SA-4.0"
    assert card(trained, "lora") == told
    # No path of whoever trained it is named, and a next stage tells on what it has read.
    assert str(data.parent) not in json.dumps(told)
    base = tmp_path / "base"
    shutil.copytree(trained / "model", base)
    output = tmp_path / "next"
    assert main(arguments_for(data, output, "--model", str(base))) == 0
    assert card(output)["base_model"] == {"model": "base", "card": told}


def test_what_is_told_of_a_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    base = tmp_path / "models" / "mine"
    base.mkdir(parents=True)
    monkeypatch.chdir(base)
    for model in (".", "~/models/mine", str(base)):
        assert describe_base(model, Path(model).expanduser()) == {"model": "mine"}
    commit = tmp_path / "snapshots" / "0a1b"
    hub = {"model": "organisation/name", "revision": "0a1b"}
    assert describe_base("organisation/name@main", commit) == hub
    assert read_card(base) is None
    (base / "model_index.json").write_text("{}")
    (base / "model_card.json").write_text("{")
    with pytest.warns(UserWarning, match=r"mine: model_card.json cannot be read"):
        assert read_card(base) is None


def test_the_model_of_a_run_draws(trained: Path, tmp_path: Path) -> None:
    image = tmp_path / "image.png"
    command = ["generate", "a red square", "--model", str(trained / "model"), "--seed", "1"]
    assert main([*command, "--steps", "2", "--output", str(image)]) == 0
    assert Image.open(image).size == (64, 64)


def test_a_run_that_lost_its_last_updates_ends_with_the_same_weights(
    data: Path, trained: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained, tmp_path / "cut")
    for part in ("checkpoints/step_00000004", "model", "lora"):
        shutil.rmtree(tmp_path / "cut" / part)
    assert main(arguments_for(data, tmp_path / "cut", "--sample-prompts", "a red square")) == 0
    again, whole = weights(tmp_path / "cut"), weights(trained)
    assert again.keys() == whole.keys()
    assert all(torch.equal(again[name], whole[name]) for name in whole)


def results(run: Path) -> dict[str, bytes]:
    found = [each for part in ("model", "lora") for each in (run / part).rglob("*")]
    return {str(each.relative_to(run)): each.read_bytes() for each in found if each.is_file()}


def test_a_finished_run_comes_out_again_with_the_same_bytes_or_stays_as_it_was(
    data: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    shutil.copytree(trained, tmp_path / "again")
    expected = results(trained)
    assert len(expected) > 10
    # A kill while they came out leaves such folders, which may hold gigabytes.
    for name in (".model.0123abcd.partial", ".lora.0123abcd.old", ".model.mine"):
        (tmp_path / "again" / name).mkdir()

    def fill(tensors: Any, path: Path, **options: Any) -> None:
        path.write_bytes(b"some")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr("deepgen.checkpoint.lora.save_file", fill)
        assert main(arguments_for(data, tmp_path / "again")) == 2
    assert results(tmp_path / "again") == expected
    assert main(arguments_for(data, tmp_path / "again")) == 0
    assert results(tmp_path / "again") == expected
    hidden = [each.name for each in (tmp_path / "again").iterdir() if each.name.startswith(".")]
    assert hidden == [".model.mine"]


def test_two_processes_of_torchrun_make_the_run_of_one(
    data: Path, trained: Path, tmp_path: Path
) -> None:
    output = tmp_path / "two"
    more = ("--device", "cpu", "--sharding", "full", "--sample-prompts", "a red square")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    run = subprocess.run(
        [*torchrun, "-m", "deepgen", *arguments_for(data, output, *more)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == f"{output / 'model'}\n"
    assert (
        run.stderr.count("2 processes share 3 micro-batches per step and idle 25% of the time") == 1
    )
    mine, expected = (
        [json.loads(line) for line in (each / "metrics.jsonl").read_text().splitlines()]
        for each in (output, trained)
    )
    assert [line["step"] for line in mine] == [1, 2, 3, 4]
    assert [line["loss"] for line in mine] == pytest.approx(
        [line["loss"] for line in expected], rel=1e-5
    )
    assert len(list((output / "samples").glob("*.png"))) == 2
    assert card(output) == card(trained)
    again, whole = weights(output), weights(trained)
    assert again.keys() == whole.keys()
    for name, value in again.items():
        torch.testing.assert_close(value, whole[name], rtol=1e-4, atol=1e-4)


def test_another_run_in_the_same_folder_is_refused(
    data: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments_for(data, trained, "--seed", "5")) == 2
    assert "seed" in capsys.readouterr().err
    assert "seed: 0" in (trained / "config.yaml").read_text()
    assert main(arguments_for(data, trained, "--resume", "never")) == 2
    assert "already contains a run" in capsys.readouterr().err


def test_a_model_that_differs_in_no_weight_makes_another_run(
    data: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    other = tmp_path / "other"
    shutil.copytree(resolve("mini"), other)
    scheduler = other / "scheduler" / "scheduler_config.json"
    scheduler.write_text(scheduler.read_text().replace('"shift": 2.0', '"shift": 3.0'))
    assert main(arguments_for(data, trained, "--model", str(other))) == 2
    assert "a run with scheduler.shift 2.0, this one has 3.0" in capsys.readouterr().err


def test_a_run_goes_on_in_its_precision_however_that_is_said(
    data: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained, tmp_path / "run")
    again = arguments_for(data, tmp_path / "run")
    assert main([*again, "--precision", "bfloat16"]) == 2
    assert "computes in bfloat16: use --precision float32" in capsys.readouterr().err
    # What auto was on this CPU.
    assert main([*again, "--precision", "float32"]) == 0


def test_a_run_of_an_earlier_version_is_refused_in_one_line(
    data: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "old"
    shutil.copytree(trained, output)
    (output / "config.yaml").write_text("stage: sft\nside: null\ndata: images\n")
    assert main(arguments_for(data, output)) == 2
    error = capsys.readouterr().err
    assert "has no setting 'side'; did you mean data.side" in error
    assert "start over in another --output" in error and error.count("\n") == 1


def test_a_run_that_begins_anew_has_its_own_settings_beside_it(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deepgen.train.trainer.Trainer.run", lambda *_, **__: exit(9))
    for seed in ("3", "5"):
        # Killed before the first checkpoint.
        with pytest.raises(SystemExit):
            main(arguments_for(data, tmp_path, "--seed", seed))
        assert f"seed: {seed}" in (tmp_path / "config.yaml").read_text()


def test_a_start_that_was_killed_in_its_first_save_has_begun_nothing(
    data: Path, tmp_path: Path
) -> None:
    (tmp_path / "run" / "checkpoints" / ".step_00000002.0123abcd.partial").mkdir(parents=True)
    command = arguments_for(data, tmp_path / "run", "--resume", "never", "--dry-run")
    assert main(command) == 0


def test_a_run_keeps_its_updates_on_another_number_of_processes(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    small = ["--microbatch-size", "1", "--lora.rank", "2", "--steps", "1"]
    assert main(["train", "sft", "--data", str(data), "--output", str(output), *small]) == 0
    left = resolve_settings(sft(), 4, stored_settings(output, None))
    assert (left.t2i_microbatches, left.edit_microbatches) == (2, 1)
    # Its checkpoints know them too, and whatever is refused leaves nothing that would count.
    (output / "config.yaml").unlink()
    command = ["train", "sft", "--data", str(data), "--output", str(output), *small, "--seed", "5"]
    assert main(command) == 2
    assert not (output / "config.yaml").exists()
    assert resolve_settings(sft(), 4, stored_settings(output, None)) == left
    # As it does elsewhere, by --resume.
    elsewhere = stored_settings(tmp_path / "new", open_checkpoint(output))
    assert resolve_settings(sft(), 4, elsewhere) == left
    said = resolve_settings(replace(sft(), edit_microbatches=5), 4, elsewhere)
    assert (said.t2i_microbatches, said.edit_microbatches) == (2, 5)
    saved = json.loads((output / "checkpoints" / "step_00000001" / "trainer.json").read_text())
    assert saved["identity"]["compared"]["t2i_microbatches"] == 2


def test_a_run_keeps_to_encoding_or_to_the_cache(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "data of mine"
    shutil.copytree(data, own)
    encoding, cached = tmp_path / "encoding", tmp_path / "cached"
    assert main(arguments_for(own, encoding)) == 0
    said = capsys.readouterr().err
    assert "the VAE encodes images whenever they are used" in said
    command = re.search(r"deepgen (data cache .+)", said)
    assert command is not None and main(shlex.split(command[1])) == 0
    assert main(arguments_for(own, cached)) == 0
    assert f"latents from the cache {own / 'latents'}" in capsys.readouterr().err
    # Now there is a cache, and the run that began without it resumes without it.
    shutil.rmtree(encoding / "checkpoints" / "step_00000004")
    assert main(arguments_for(own, encoding)) == 0
    said = capsys.readouterr().err
    # To which a cache could change nothing any more.
    assert "the VAE encodes images whenever they are used" in said and "data cache" not in said
    assert main(arguments_for(own, encoding, "--cached-latents", "always")) == 2
    assert "of a run with data.cached_latents never, this one has always" in capsys.readouterr().err
    shutil.rmtree(own / "latents")
    assert main(arguments_for(own, cached)) == 2
    error = capsys.readouterr().err
    assert "this run uses cached latents, but 1 of 1 files" in error


def test_samples_of_an_update_count_alike_and_keep_their_references(data: Path) -> None:
    config = StageConfig(
        data=DataConfig(folder=data), microbatch_size=1, t2i_microbatches=3, output=Path("x")
    )
    run = build(resolve_settings(config, 1), device=torch.device("cpu"))
    # The autoencoder, which is loaded anew, is no part of what is trained and saved.
    assert {name.split(".")[0] for name in run.trainer.trained} == {"conditioner", "dit"}
    # Edits read it, so it tells this run from others.
    assert "vision_tower" in run.trainer.identity.compared
    stream = run.trainer.monitoring.replacement_source
    assert isinstance(stream, FlowBatches)
    batches = stream(0)
    assert sum(float(batch.weights.sum()) for batch in batches) == pytest.approx(1)
    assert sorted(len(batch.reference_latents[0]) for batch in batches) == [0, 0, 0, 1]
    again = stream(0)
    assert [batch.keys for batch in again] == [batch.keys for batch in batches]


def test_captions_that_are_too_long_are_cut_and_counted_in_training_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("deepgen.conditioning.prompts.MAX_PROMPT_TOKENS", 64)
    images = tmp_path / "images"
    images.mkdir()
    Image.new("RGB", (64, 64), "red").save(images / "a.png")
    (images / "a.txt").write_text("a red square " * 40)
    imported = tmp_path / "imported"
    assert main(["data", "import", "folder", str(images), str(imported), "--min-side", "32"]) == 0
    assert main(arguments_for(imported, tmp_path / "run", "--steps", "1")) == 0
    shown = capsys.readouterr().err
    assert "warning: the text of images/a.png was truncated" in shown
    (line,) = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    # One image, in each of the micro-batches of drawings.
    assert json.loads(line)["prompts_truncated"] == smoke().t2i_microbatches
    command = ["generate", "a red square " * 40, "--output", str(tmp_path / "a.png")]
    assert main(command) == 2
    assert "64 is the limit; shorten it" in capsys.readouterr().err


def test_a_task_that_the_data_lack_is_left_out(data: Path, tmp_path: Path) -> None:
    alone = tmp_path / "images"
    alone.mkdir()
    Image.new("RGB", (64, 64), "red").save(alone / "a.png")
    (alone / "a.txt").write_text("a red square")
    arguments = ["data", "import", "folder", str(alone), str(tmp_path / "set"), "--min-side", "32"]
    assert main(arguments) == 0
    assert set(task_plans(resolve_settings(sft(), 1), DataSet.open(tmp_path / "set"), 1)) == {"t2i"}


def test_prompts_are_read_with_autograd_where_asked_for(data: Path, tmp_path: Path) -> None:
    for asked in (False, True):
        config = replace(
            pretrain(),
            data=DataConfig(folder=data),
            output=tmp_path,
            compute=ComputeConfig(prompt_gradients=asked),
        )
        run = build(resolve_settings(config, 1), device=torch.device("cpu"))
        assert run.model.conditioner.vlm.detach_prompts is not asked
        assert "compute.prompt_gradients" not in run.trainer.identity.compared


def test_adapters_alone_give_the_model_that_was_trained(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    small = ["--steps", "2", "--microbatch-size", "1", "--lr", "0.01"]
    assert main(["train", "lora", "--data", str(data), "--output", str(run), *small]) == 0
    whole = load_folder(run / "model")
    adapted = load_folder(resolve("mini"))
    before = adapted.dit.state_dict()["proj_out.weight"].clone()
    merge_lora(adapted, run / "lora")
    mine, theirs = adapted.state_dict(), whole.state_dict()
    assert all(torch.allclose(mine[name], theirs[name], atol=1e-6) for name in mine)
    assert not torch.allclose(before, mine["dit.proj_out.weight"], atol=1e-5)
