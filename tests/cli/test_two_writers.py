"""Two commands that write one folder: the second is refused at its start and changes nothing."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from deepgen.checkpoint.writing import atomic_folder
from deepgen.cli.main import main
from deepgen.data.dataset import DataSet
from deepgen.data.importers.folder import open_source
from deepgen.data.importers.source import SourceOptions
from deepgen.data.importing import ImportOptions, import_source
from deepgen.data.latents import build_cache
from deepgen.errors import FolderInUseError
from deepgen.locks import LOCK
from tests.data.sets import captioned_folder, imported
from tests.eval.records import prompt_folder
from tests.test_locks import held


@pytest.mark.parametrize(
    ("command", "folder"),
    [
        ("data import folder images out", "out"),
        ("train smoke --data data --output out", "out"),
        ("train rl --rl.prompts prompts.jsonl --output out", "out"),
        ("train mini --output out", "out"),
        ("demo --output out", "out"),
        ("eval generate geneval --output out --data prompts", "out"),
        ("eval generate geneval --output out --data prompts --shard 1/2", "out"),
        ("eval score geneval --output out --data prompts", "out"),
        ("eval run geneval --output out --data prompts", "out"),
        ("eval fetch geneval --data fetched", "fetched/geneval"),
    ],
)
def test_the_second_command_is_refused_in_one_line_at_its_start(
    command: str,
    folder: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    captioned_folder(tmp_path / "images", 1)
    (tmp_path / "prompts").symlink_to(prompt_folder("geneval").parent)
    with held(tmp_path / folder):
        assert main(command.split()) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.count("\n") == 1
        assert f"{folder} is being written by process {os.getpid()}" in said.err
        assert [each.name for each in (tmp_path / folder).iterdir()] == [LOCK]


def test_two_imports_into_one_folder_never_mix(tmp_path: Path) -> None:
    first = open_source(captioned_folder(tmp_path / "first", 3), SourceOptions())
    second = open_source(captioned_folder(tmp_path / "second", 5), SourceOptions())
    begun, continues = threading.Event(), threading.Event()

    def pause(rows: int) -> None:
        begun.set()
        assert continues.wait(20)

    options, out = ImportOptions(name="mine"), tmp_path / "out"
    thread = threading.Thread(
        target=lambda: import_source(first, out, options, workers=1, watch=pause)
    )
    thread.start()
    assert begun.wait(20)
    with pytest.raises(FolderInUseError):
        import_source(second, out, options, workers=1)
    continues.set()
    thread.join()
    assert len(DataSet.open(out)) == 3
    alone = tmp_path / "alone"
    import_source(first, alone, options, workers=1)
    assert {each.name: each.read_bytes() for each in out.iterdir()} == {
        each.name: each.read_bytes() for each in alone.iterdir()
    }


def test_a_cache_of_latents_and_an_output_model_have_one_writer(tmp_path: Path) -> None:
    data = imported(captioned_folder(tmp_path / "images", 1), tmp_path / "data")
    with (
        held(data.folder / "latents" / "hash-64"),
        pytest.raises(FolderInUseError),
    ):
        build_cache(data, lambda pixels: pixels, vae_hash="hash", side=64)
    with (
        held(tmp_path / "model", beside=True),
        pytest.raises(FolderInUseError),
        atomic_folder(tmp_path / "model", overwrite=False),
    ):
        pass
