"""Signals between the start of a command and its first result; see tests/train for later ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from deepgen.cli.main import main
from deepgen.cli.signals import RESUMES, raise_if_received
from deepgen.cli.train import Train
from deepgen.data import importing
from tests.data.sets import captioned_folder

STARTING = """
import os, signal, sys
from importlib.abc import MetaPathFinder
from deepgen.__main__ import run

class Signalled(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "deepgen.cli.main":
            os.kill(os.getpid(), int(sys.argv.pop()))

# As in a terminal: shells have what they start in the background ignore one, nohup the other.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
sys.meta_path.insert(0, Signalled())
sys.exit(run())
"""


@pytest.mark.parametrize(
    ("command", "number", "code", "line"),
    [
        ("train", signal.SIGTERM, 75, RESUMES),
        ("train", signal.SIGUSR1, 75, RESUMES),
        ("train", signal.SIGINT, 130, "error: interrupted"),
        ("generate", signal.SIGTERM, 143, "error: terminated"),
        ("generate", signal.SIGHUP, 143, "error: terminated"),
        ("data", signal.SIGINT, 130, "error: interrupted"),
    ],
)
def test_a_signal_during_imports_is_answered(
    command: str, number: int, code: int, line: str
) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", STARTING, command, str(number)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (code, "", f"{line}\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_a_training_that_has_not_begun_is_to_be_started_again(
    number: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def load(self: Train) -> None:
        os.kill(os.getpid(), number)

    monkeypatch.setattr(Train, "_train", load)
    monkeypatch.chdir(tmp_path)
    inherited = signal.signal(number, signal.SIG_DFL)
    try:
        assert main(["train", "smoke", "--data", "data", "--output", "run"]) == 75
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, inherited)
    assert capsys.readouterr().err == f"{RESUMES}\n"
    assert list(tmp_path.iterdir()) == []


def test_a_signal_that_a_library_swallows_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(self: Train) -> None:
        with suppress(BaseException):
            os.kill(os.getpid(), signal.SIGTERM)
        raise_if_received()
        raise AssertionError("the training begins")

    monkeypatch.setattr(Train, "_train", load)
    monkeypatch.chdir(tmp_path)
    assert main(["train", "smoke", "--data", "data", "--output", "run"]) == 75


def test_an_import_that_is_terminated_leaves_nothing_unfinished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def end(self: object, row: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(importing._Import, "_add", end)
    source, out = captioned_folder(tmp_path / "images", 2), tmp_path / "out"
    assert main(["data", "import", "folder", str(source), str(out)]) == 143
    assert capsys.readouterr().err == "error: terminated\n"
    assert {each.name for each in out.iterdir()} == {"dataset.json", "quarantine.jsonl"}
