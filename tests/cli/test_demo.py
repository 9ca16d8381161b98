from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from deepgen.cli.main import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where somebody typed ``deepgen`` alone."""
    folder = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main([]) == 0
    return folder


def test_without_arguments_the_embedded_model_draws_a_gallery(folder: Path) -> None:
    images = sorted((folder / "deepgen-demo").glob("[0-9].png"))
    assert len(images) >= 6
    page = Image.open(folder / "deepgen-demo" / "gallery.png")
    assert page.width > 2 * Image.open(images[0]).width


def test_images_of_the_gallery_say_how_they_were_made(folder: Path) -> None:
    record = json.loads(Image.open(folder / "deepgen-demo" / "1.png").info["deepgen"])
    assert record["model"] == "mini"
    assert record["prompt"] == "a cat on a pink background"


def test_an_existing_gallery_is_named_and_left_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    page = folder / "deepgen-demo" / "gallery.png"
    before = page.stat().st_mtime_ns
    assert main([]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("Usage: deepgen COMMAND")
    assert "deepgen-demo/gallery.png" in said.err.replace("\\", "/")
    assert page.stat().st_mtime_ns == before
    assert main(["demo"]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_where_nothing_can_be_written_the_commands_are_listed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "deepgen-demo").write_text("a file of that name")
    monkeypatch.chdir(tmp_path)
    assert main([]) == 0
    said = capsys.readouterr()
    assert "Commands:" in said.out
    assert "note: no gallery: " in said.err
