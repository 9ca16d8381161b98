"""What a user sees of a run, by the command line, with the mini."""

from __future__ import annotations

import json
import shutil
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from deepgen.cli import train as train_command
from deepgen.cli.main import main
from deepgen.data.dataset import DataSet

COLORS = ("red", "green", "blue", "orange", "purple", "black")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six drawings and three edits, as a data set."""
    images = tmp_path_factory.mktemp("images")
    rows: list[dict[str, Any]] = []
    for index, color in enumerate(COLORS):
        Image.new("RGB", (64, 64), color).save(images / f"{color}.png")
        rows.append({"txt": f"a {color} square", "image_path": f"{color}.png"})
        if index % 2:
            edit = {"output_image": f"{color}.png", "instruction": f"make it {color}"}
            rows.append({"input_image": [f"{COLORS[index - 1]}.png"], **edit})
    (images / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    imported = tmp_path_factory.mktemp("data") / "imported"
    arguments = ["data", "import", "table", str(images / "rows.jsonl"), str(imported)]
    assert main([*arguments, "--min-side", "32"]) == 0
    return imported


def train(data: Path, output: Path, *more: str) -> int:
    small = ("--steps", "4", "--save-every", "2", "--log-every", "1", "--microbatch-size", "1")
    known = ("--data", str(data), "--output", str(output), "--peak-tflops", "0.1")
    return main(["train", "smoke", *known, *small, *more])


@pytest.fixture(scope="module")
def watched(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that was watched in every way."""
    folder = tmp_path_factory.mktemp("run")
    Image.new("RGB", (64, 64), "red").save(folder / "red.png")
    edit = ("--sample-edits", "make it blue", str(folder / "red.png"))
    more = ("--sample-prompts", "a red square", "--sample-every", "3", "--log-to", "tensorboard")
    assert train(data, folder / "whole", *edit, *more) == 0
    return folder / "whole"


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def of_the_run(run: Path) -> list[dict[str, Any]]:
    """Lines without what is the machine's."""
    return [{name: each for name, each in line.items() if name != "speed"} for line in lines(run)]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return {
        f"{file.parent.name}.{name}": value
        for file in (run / "model").glob("*/*.safetensors")
        for name, value in load_file(file).items()
    }


def test_a_line_tells_of_tasks_noise_parts_and_speed(watched: Path) -> None:
    found = lines(watched)
    assert [line["step"] for line in found] == [1, 2, 3, 4]
    for line in found:
        # Two drawings and an edit an update.
        assert line["loss"] == pytest.approx((2 * line["loss/t2i"] + line["loss/edit"]) / 3)
        assert any(name.startswith("loss/sigma_") for name in line)
        for part in ("connector", "dit", "vlm_adapters", "think_tokens"):
            assert 0 <= line[f"grad_norm/{part}"] <= line["grad_norm"]
        assert line["replaced"] == 0
        speed = line["speed"]
        assert speed["images_per_second"] == pytest.approx(3 * speed["steps_per_second"])
        # 16 image tokens each, 16 more of a reference, and at least the 32 think tokens.
        assert speed["tokens_per_second"] > 3 * 48 * speed["steps_per_second"]
        assert 0 < speed["mfu"] == pytest.approx(speed["flops_per_second"] / 1e11)
        assert 0 <= speed["data_wait"] < 1
        assert {"data", "encode", "forward", "backward", "optimizer"} <= speed["time"].keys()
        assert speed["peak_memory_gib"] > 0.1


def test_the_share_of_time_of_saving_and_drawing_is_told(watched: Path) -> None:
    # Of what came before the line of step 4: the checkpoint of step 2, the images of step 3.
    assert lines(watched)[2]["speed"]["time"]["save"] > 0
    assert lines(watched)[3]["speed"]["time"]["images"] > 0


def test_images_and_edits_come_every_so_often_and_at_the_end(watched: Path) -> None:
    names = {each.name for each in (watched / "samples").iterdir()}
    steps = ("step_00000003", "step_00000004")
    assert names == {f"{step}_{place}.png" for step in steps for place in (1, 2)}
    assert Image.open(watched / "samples" / "step_00000004_2.png").size == (64, 64)


def test_held_out_samples_are_watched_and_never_trained_on(data: Path, tmp_path: Path) -> None:
    table = next(iter(data.parent.parent.glob("images*/rows.jsonl")))
    own = tmp_path / "data"
    arguments = ["data", "import", "table", str(table), str(own), "--min-side", "32"]
    assert main([*arguments, "--val-fraction", "0.4"]) == 0
    found = DataSet.open(own)
    held_out = [len(found.rows(task=task, split="val")) for task in ("t2i", "edit")]
    assert all(held_out)
    assert train(own, tmp_path / "run", "--lr", "1e-9") == 0
    watched = [line for line in lines(tmp_path / "run") if "val/loss" in line]
    assert [line["step"] for line in watched] == [2, 4]
    for line in watched:
        total = sum(
            n * line[f"val/loss/{t}"] for n, t in zip(held_out, ("t2i", "edit"), strict=True)
        )
        assert line["val/loss"] == pytest.approx(total / sum(held_out))
    # The weights hardly change, and the noise not at all.
    assert watched[0]["val/loss"] == pytest.approx(watched[1]["val/loss"], rel=1e-4)
    assert all("val/loss" not in line for line in lines(tmp_path / "run") if "loss" in line)


def test_every_checkpoint_has_all_settings_of_its_run(watched: Path) -> None:
    for step in (2, 4):
        folder = watched / "checkpoints" / f"step_{step:08}"
        settings = json.loads((folder / "config.json").read_text())
        logging = settings["logging"]
        assert settings["steps"] == 4 and logging["sample_every"] == 3
        assert logging["sample_edits"] == [["make it blue", str(watched.parent / "red.png")]]
        # A checkpoint's settings are a file for --config.
        read = train_command.parse_train(["smoke", "--config", str(folder / "config.json")])
        assert read.settings.steps == 4 and read.settings.output == watched


def test_tensorboard_has_what_the_log_has(watched: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(watched / "tensorboard"))
    events.Reload()
    losses = [each.value for each in events.Scalars("loss")]
    assert losses == pytest.approx([line["loss"] for line in lines(watched)])
    assert "speed/time/forward" in events.Tags()["scalars"]


def test_a_run_begins_from_the_checkpoint_of_another_and_says_what_it_does_otherwise(
    data: Path, watched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = watched / "checkpoints" / "step_00000002"
    often = ("--save-every", "1")
    assert train(data, tmp_path / "new", *often, "--resume", str(start)) == 0
    said = capsys.readouterr().err
    assert f"starting from {start}" in said
    assert f"output is {tmp_path / 'new'}, was {watched}" in said
    assert "logging.sample_every is None, was 3" in said
    mine, whole = weights(tmp_path / "new"), weights(watched)
    assert mine.keys() == whole.keys()
    assert all(torch.equal(mine[name], whole[name]) for name in whole)
    assert of_the_run(tmp_path / "new") == of_the_run(watched)[2:]
    # The same command again, after a kill, when that checkpoint is gone: it is needed no more.
    shutil.rmtree(tmp_path / "new" / "checkpoints" / "step_00000004")
    gone = tmp_path / "gone" / start.name
    assert train(data, tmp_path / "new", *often, "--resume", str(gone)) == 0
    assert "starting from" not in capsys.readouterr().err
    assert all(torch.equal(weights(tmp_path / "new")[name], whole[name]) for name in whole)


def test_another_run_or_model_is_no_beginning(
    data: Path, watched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    inside = watched / "checkpoints" / "step_00000002"
    refused = [
        (("--resume", str(watched), "--seed", "5"), tmp_path / "new", "seed 0, this one has 5"),
        (
            ("--resume", str(watched), "--lora.rank", "2"),
            tmp_path / "new",
            "this one has 2; use the same rank",
        ),
        (("--resume", "nowhere"), tmp_path / "new", "nowhere: no such folder"),
        (("--resume", str(tmp_path / "empty")), tmp_path / "new", "holds no checkpoint"),
        (("--resume", str(inside)), watched, "use another --output"),
    ]
    for more, output, part in refused:
        assert train(data, output, *more) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("error: ") and part in error
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("more", "part"),
    [
        (["--log-to", "wandb"], "[wandb]"),
        (["--log-to", "neptune"], "neptune"),
        (["--sample-every", "0"], "sample_every must be at least 1"),
        (["--peak-tflops", "0"], "peak_tflops must be a positive number"),
        (["--sample-edits", "make it red", "nowhere.png"], "nowhere.png"),
    ],
)
def test_what_cannot_be_watched_is_refused_in_one_line(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    part: str,
) -> None:
    monkeypatch.setattr(train_command, "find_spec", lambda name: None)
    assert train(data, tmp_path / "run", *more) == 2
    assert part in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_a_folder_called_as_a_package_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_command, "find_spec", lambda name: ModuleSpec(name, None))
    with pytest.raises(ValueError, match="not installed"):
        train_command.check_loggers(["wandb"])


def damaged(data: Path, copy: Path) -> Path:
    """The data set, with one drawing that is no longer what was imported."""
    shutil.copytree(data, copy)
    found = DataSet.open(copy)
    image = found.record(int(found.rows(task="t2i")[2])).target
    shard = copy / image.shard
    content = bytearray(shard.read_bytes())
    middle = image.offset + image.length // 2
    content[middle] ^= 0xFF
    shard.write_bytes(content)
    return copy


def test_an_image_that_broke_is_replaced_counted_and_listed(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = damaged(data, tmp_path / "broken")
    assert train(broken, tmp_path / "run") == 0
    assert "another sample replaces it" in capsys.readouterr().err
    text = (tmp_path / "run" / "replacements.jsonl").read_text()
    log = [json.loads(line) for line in text.splitlines()]
    assert {entry["sample_id"] for entry in log} == {log[0]["sample_id"]}
    assert of_the_run(tmp_path / "run")[-1]["replaced"] == len(log) > 0
    # Mended between a kill and the next start: what was replaced stays replaced.
    cut = tmp_path / "cut"
    shutil.copytree(tmp_path / "run", cut)
    for part in ("checkpoints/step_00000004", "model", "lora"):
        shutil.rmtree(cut / part)
    assert train(data, cut) == 0
    assert of_the_run(cut) == of_the_run(tmp_path / "run")
    mine, expected = weights(cut), weights(tmp_path / "run")
    assert all(torch.equal(mine[name], expected[name]) for name in expected)
