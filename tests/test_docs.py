"""What the documents say is there, is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

from deepgen.cli.main import main
from deepgen.cli.train import parse_train

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
COMMANDS = re.findall(r"^deepgen .+$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in target]
    assert [target for target in targets if not (document.parent / target).exists()] == []


@pytest.mark.parametrize("name", ["paper-map.md", "architecture.md", "deviations.md"])
def test_named_sources_exist(name: str) -> None:
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    named = re.findall(r"`([a-z_]+/[a-z_/]*(?:\.py)?|[a-z_]+\.py)`", text)
    absent = [
        path
        for path in named
        if not (ROOT / "src" / "deepgen" / path).exists() and not (ROOT / path).exists()
    ]
    assert absent == []


def test_the_readme_names_what_to_run() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in ("make demo", "make test", "make check"):
        assert command in text
        assert f"\n{command.split()[1]}:" in (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_readme_are_understood(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("deepgen.cli.main._run", lambda command: 0)
    assert main(shlex.split(command, comments=True)[1:]) == 0, capsys.readouterr().err


def test_the_readme_shows_commands() -> None:
    assert len(COMMANDS) >= 4


def test_the_published_updates_are_as_large_as_the_table_says() -> None:
    text = (ROOT / "docs" / "many-processes.md").read_text(encoding="utf-8")
    rows = re.findall(r"([\d,]+) samples \| (\d+) \| `deepgen train (.+)` \|", text)
    assert len(rows) == 4
    for samples, passes, command in rows:
        settings = parse_train(shlex.split(command)).settings
        assert settings.t2i_microbatches and settings.edit_microbatches
        found = settings.t2i_microbatches + settings.edit_microbatches
        assert found == int(passes)
        assert found * settings.microbatch_size == int(samples.replace(",", ""))


def test_the_commands_of_the_tutorial_do_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / "docs" / "fine-tuning.md").read_text(encoding="utf-8")
    commands = re.findall(r"^deepgen .+$", text, re.M)
    assert len(commands) >= 7
    images = tmp_path / "my-images"
    images.mkdir()
    for index in range(20):
        Image.new("RGB", (64, 64), (12 * index, 90, 160)).save(images / f"{index}.png")
        (images / f"{index}.txt").write_text(f"colour number {index}")
    monkeypatch.chdir(tmp_path)
    for command in commands:
        # A few updates show all that many would.
        typed = re.sub(r"(--(steps|save-every|sample-every)) \d+", r"\1 2", command)
        typed = typed.replace("step_00000020", "step_00000002")
        typed = typed.replace("path/to/DeepGen-1.0", "mini")
        if typed.startswith(("deepgen generate", "deepgen edit")):
            typed += " --steps 2"
        assert main(shlex.split(typed)[1:]) == 0, (command, capsys.readouterr().err)
    made_by_commands = ("preview.png", "before.png", "after.png", "same.png")
    for made in (*made_by_commands, "runs/mine/config.yaml", "runs/style/lora"):
        assert (tmp_path / made).exists()
    assert len(list((tmp_path / "runs" / "watched" / "samples").iterdir())) == 2
    assert (tmp_path / "runs" / "branch" / "model" / "model_index.json").is_file()
