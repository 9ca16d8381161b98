"""Folders that nothing should be written into, refused before a model or data are loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from deepgen.cli.main import main
from tests.eval.records import prompt_folder

COMMANDS = (
    "train smoke --data data --model model --output {}",
    "train mini --output {}",
    "eval generate geneval --model model --data prompts --output {}",
    "eval score geneval --images images --data prompts --output {}",
    "eval run geneval --model model --data prompts --output {}",
    "train rl --model model --rl.prompts prompts.jsonl --output {}",
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEEPGEN_CACHE", str(tmp_path / "cache"))
    for name in ("data/dataset.json", "model/model_index.json", "images/a.png", "file"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    (tmp_path / "prompts").symlink_to(prompt_folder("geneval").parent)
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        *COMMANDS,
        "eval fetch geneval --data {}",
        "data import folder images {}",
        "demo --output {}",
    ],
)
@pytest.mark.parametrize("output", ["file", "file/below"])
def test_a_file_is_no_folder(
    command: str, output: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command.format(output).split()) == 2
    said = capsys.readouterr().err
    assert "is a file" in said
    assert said.count("\n") == 1
    assert (place / "file").read_text() == "{}"


@pytest.mark.parametrize(
    ("command", "output", "part"),
    [
        (COMMANDS[0], "data", "is the folder of --data data"),
        (COMMANDS[0], "data/../data/run", "is inside the folder of --data data"),
        (COMMANDS[0], "model", "is the folder of --model model"),
        (COMMANDS[0], "model/run", "is inside the folder of --model model"),
        (COMMANDS[2], "model/run", "is inside the folder of --model model"),
        (COMMANDS[2], "prompts", "is the folder of --data prompts"),
        (COMMANDS[3], "images", "is the folder of --images images"),
        (COMMANDS[4], "model", "is the folder of --model model"),
        *((command, "data", "data") for command in COMMANDS),
        *((command, "model", "model") for command in COMMANDS),
    ],
)
def test_what_is_read_or_of_another_kind_is_not_written(
    command: str, output: str, part: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(place.rglob("*"))
    assert main(command.format(output).split()) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: --output")
    assert part in said
    assert said.count("\n") == 1
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize(
    "command", ["data prompts {} --mini 1 --overwrite", "train report run --output {}"]
)
@pytest.mark.parametrize(
    ("output", "part"),
    [("data", "data is a folder, expected"), ("file/below", "file is a file, not a folder")],
)
def test_no_file_is_written_over_a_folder_or_below_a_file(
    command: str, output: str, part: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(place.rglob("*"))
    assert main(command.format(output).split()) == 2
    said = capsys.readouterr().err
    assert part in said
    assert said.count("\n") == 1
    assert sorted(place.rglob("*")) == before
