"""The plan that trains the embedded model's next version."""

import json
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from gpu import mini
from gpu.mini import PLAN, TOY, progress
from gpu.plan import Context

from deepgen.mini.training.parts import autoencoder_part, checkpoints_of
from deepgen.stages.run_folder import SETTINGS, save_settings

TRAIN = PLAN.tasks[-1]


def context(folder: Path, seconds: float) -> Context:
    folder.mkdir(exist_ok=True)
    return Context(
        device=torch.device("cpu"),
        toy=True,
        folder=folder,
        golden=None,
        renders=None,
        deadline=time.monotonic() + seconds,
    )


class SlowTraining:
    """Stands for ``deepgen train mini``: it never ends by itself, and saves when it is stopped."""

    def __init__(self, command: list[str], **_: object) -> None:
        self.run = Path(command[command.index("--output") + 1])
        self.stopped = False

    def wait(self, timeout: float | None = None) -> int:
        if not self.stopped:
            assert timeout is not None
            raise subprocess.TimeoutExpired("deepgen", timeout)
        trainer = autoencoder_part(TOY, torch.device("cpu")).trainer()
        trainer.save(checkpoints_of(self.run, "autoencoder"))
        return 75

    def send_signal(self, number: int) -> None:
        self.stopped = True

    def kill(self) -> None:
        pass  # It has ended.


def test_training_is_stopped_before_the_deadline_and_packed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mini.subprocess, "Popen", SlowTraining)
    row = TRAIN.run(context(tmp_path / "mini", seconds=30))
    assert row["state"] == "part"
    assert row["packed_steps"] == {"autoencoder": 0}
    assert (tmp_path / "mini" / "run.safetensors").exists()

    # What came back continues on the next machine.
    (tmp_path / "next").mkdir()
    packed = (tmp_path / "mini" / "run.safetensors").read_bytes()
    (tmp_path / "next" / "start.safetensors").write_bytes(packed)
    row = TRAIN.run(context(tmp_path / "next", seconds=30))
    assert (tmp_path / "next" / "run" / SETTINGS).exists()
    assert row["packed_steps"] == {"autoencoder": 0}


def test_a_training_that_fails_is_a_failed_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(command: list[str], *, stdout: Any, **_: object) -> subprocess.Popen[bytes]:
        return real(["sh", "-c", "echo no memory; exit 1"], stdout=stdout)

    real = subprocess.Popen
    monkeypatch.setattr(mini.subprocess, "Popen", failing)
    monkeypatch.setattr(mini, "pack", lambda run, file: file.write_bytes(b"") and {})
    with pytest.raises(RuntimeError, match="ended with 1: no memory"):
        TRAIN.run(context(tmp_path, seconds=30))


def test_progress_counts_steps_and_samples_of_every_stage(tmp_path: Path) -> None:
    save_settings(tmp_path / SETTINGS, replace(TOY, label_steps=50))
    lines = [
        {"step": 10, "loss": 0.5, "speed": {"steps_per_second": 2.0}},
        {"step": 20, "loss": 0.4, "speed": {"steps_per_second": 3.0}},
    ]
    (tmp_path / "label-conditioned").mkdir()
    (tmp_path / "label-conditioned" / "metrics.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines)
    )
    expected = {"step": 20, "steps": 50, "loss": 0.4, "samples_per_second": 12.0}
    assert progress(tmp_path)["stages"] == {"label-conditioned": expected}
