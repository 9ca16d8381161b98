"""The commands from end to end, with the tiny model of the reference numbers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from deepgen.cli.main import main
from tests.shared import golden

Captured = pytest.CaptureFixture[str]

SMALL = ["--width", "64", "--height", "32", "--steps", "2", "--device", "cpu"]


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    monkeypatch.chdir(tmp_path)
    return str(golden("model"))


def test_info_accounts_for_every_component(model: str, capsys: Captured) -> None:
    assert main(["info", model, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    named = {each["name"]: each for each in report["components"]}
    assert set(named) == {"transformer", "vae", "vlm", "connector", "scheduler", "tokenizer"}
    assert named["transformer"]["class"] == "SD3Transformer2DModel"
    assert named["transformer"]["dtype"] == "float32"
    assert named["transformer"]["bytes"] == 4 * named["transformer"]["parameters"]
    assert report["parameters"] == sum(each["parameters"] for each in report["components"])
    assert report["defaults"]["num_inference_steps"] == 50


def test_info_is_a_table_for_people(model: str, capsys: Captured) -> None:
    assert main(["info", model]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["component", "class", "parameters", "dtype", "bytes", "provenance"]
    assert len(lines) == 10


def test_info_says_how_a_model_fits_before_it_is_loaded(model: str, capsys: Captured) -> None:
    assert main(["info", model, "--memory", "8"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "all weights stay on the device" in lines[-5]
    assert lines[-4].split() == [
        "GB",
        "in",
        "stage",
        "weights",
        "activations",
        "reserve",
        "together",
    ]
    for line in lines[-3:]:
        *parts, together = (round(100 * float(each)) for each in line.split()[1:])
        assert sum(parts) == together
    highest = max(float(line.split()[-1]) for line in lines[-3:])
    assert f"at most {highest:.2f} GB" in lines[-5]

    def weights(*options: str) -> int:
        assert main(["info", model, "--memory", "8", "--json", *options]) == 0
        stages = json.loads(capsys.readouterr().out)["memory"]["stages"]
        return int(stages[0]["weights"])

    assert weights("--dtype", "float32") == 2 * weights()
    # The vision tower is for edits alone.
    assert weights("--references", "0") < weights() == weights("--references", "4")
    assert main(["info", model, "--memory", "8", "--quantize", "nf4", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["memory"]
    assert (found["offload"], found["is_exact"], found["memory"]) == ("none", False, 8)
    assert main(["info", model, "--memory", "0.5"]) != 0
    said = capsys.readouterr().err
    assert "memory 0.5 cannot hold this model" in said
    assert said.count("\n") == 1


def test_a_seed_makes_the_same_file_alone_and_among_others(
    model: str, capsys: Captured, tmp_path: Path
) -> None:
    common = ["generate", "a cat", "--model", model, *SMALL]
    assert main([*common, "--seed", "7", "--num-images", "2", "--output", "a.png"]) == 0
    assert main([*common, "--seed", "8", "--output", "b.png"]) == 0
    assert capsys.readouterr().out.split() == ["a-1.png", "a-2.png", "b.png"]
    assert (tmp_path / "a-2.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a-1.png").read_bytes() != (tmp_path / "b.png").read_bytes()


def test_an_edit_has_the_size_of_the_image(model: str, capsys: Captured, tmp_path: Path) -> None:
    Image.effect_noise((64, 32), 50).convert("RGB").resize((61, 35)).save(tmp_path / "own.png")
    # Of odd size, so it would be seen at the model's own 512 pixels; a smaller model is quicker.
    small = tmp_path / "small"
    shutil.copytree(model, small)
    index = json.loads((small / "model_index.json").read_text())
    index["defaults"] = {"height": 64, "width": 64}
    (small / "model_index.json").write_text(json.dumps(index))
    arguments = ["edit", "blue", "own.png", "--model", "small", "--steps", "2", "--json"]
    assert main([*arguments, "--output", "edited.jpg"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["width"], record["height"]) == (61, 35)
    assert Image.open(tmp_path / "edited.jpg").size == (61, 35)


def test_a_device_that_is_not_there_is_refused(
    model: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(["generate", "a cat", "--model", model, "--device", "cuda"]) == 2
    assert "--device cpu" in capsys.readouterr().err


def test_an_interrupted_call_leaves_no_file(
    model: str, capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", interrupt)
    assert main(["generate", "a cat", "--model", model, *SMALL, "--output", "a.png"]) == 130
    assert capsys.readouterr().err.endswith("error: interrupted\n")
    assert list(tmp_path.iterdir()) == []
