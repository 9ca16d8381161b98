from dataclasses import replace
from pathlib import Path

import pytest
import torch

from deepgen.config.codec import read_yaml
from deepgen.config.mini import MiniConfig
from deepgen.errors import CheckpointError
from deepgen.mini.training.parts import autoencoder_part, checkpoints_of
from deepgen.mini.training.transfer import pack, unpack
from deepgen.stages.run_folder import SETTINGS, save_settings
from tests.mini.training.test_run import TOY


def test_a_run_is_continued_from_one_small_file(tmp_path: Path) -> None:
    config = replace(TOY, output=tmp_path / "run", autoencoder_steps=2)
    cpu = torch.device("cpu")
    part = autoencoder_part(config, cpu)
    config.output.mkdir()
    save_settings(config.output / SETTINGS, config)
    trainer = part.trainer()
    trainer.step()
    trainer.save(checkpoints_of(config.output, "autoencoder"))
    assert pack(config.output, tmp_path / "run.safetensors") == {"autoencoder": 1}

    assert unpack(tmp_path / "run.safetensors", tmp_path / "other") == {"autoencoder": 1}
    assert read_yaml(tmp_path / "other" / SETTINGS, MiniConfig()).autoencoder_steps == 2
    resumed = autoencoder_part(config, cpu)
    newest = checkpoints_of(tmp_path / "other", "autoencoder").newest()
    assert newest is not None
    again = resumed.trainer()
    again.load(newest)
    assert again.done == 1
    assert trainer.ema is not None
    for name, value in again.trained.items():
        assert torch.equal(value, trainer.ema.weights[name].half().float())
    resumed.train(tmp_path / "other")
    with pytest.raises(CheckpointError, match="not empty"):
        unpack(tmp_path / "run.safetensors", tmp_path / "other")


def test_other_files_and_runs_without_checkpoints_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bad").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="not a packed run"):
        unpack(tmp_path / "bad", tmp_path / "run")
    assert not (tmp_path / "run").exists()
    save_settings(tmp_path / SETTINGS, TOY)
    with pytest.raises(CheckpointError, match="no checkpoint yet"):
        pack(tmp_path, tmp_path / "file")
