from __future__ import annotations

import pytest
import torch

from deepgen.devices import local_device, pick_device
from deepgen.pipeline.pipeline import DeepGenPipeline
from tests.checkpoint.models import tiny_model


def test_a_device_that_is_missing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match=r"--device cuda: .* try --device cpu"):
        pick_device("cuda")


def test_a_pipeline_is_not_loaded_for_or_moved_to_a_gpu_that_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("deepgen.pipeline.pretrained.load_folder", lambda *_, **__: 1 / 0)
    with pytest.raises(ValueError, match=r"device cuda: .* finds no cuda here; use device='cpu'"):
        DeepGenPipeline.from_pretrained("mini", device="cuda", memory=8)
    pipe = DeepGenPipeline(tiny_model())
    for device in ("cuda", torch.device("cuda", 0)):
        with pytest.raises(ValueError, match="finds no cuda here"):
            pipe.to(device)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(ValueError, match="cuda:1: torch finds 1 GPUs, numbered from 0"):
        pipe.to(device="cuda:1")


def test_auto_takes_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert pick_device("auto") == "cuda"


def test_each_process_of_torchrun_has_the_gpu_of_its_local_rank(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen: list[torch.device] = []
    monkeypatch.setattr("torch.cuda.set_device", chosen.append)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert local_device("cuda") == torch.device("cuda", 3)
    assert chosen == [torch.device("cuda", 3)]


def test_without_torchrun_and_without_gpus_there_is_one_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert local_device("cuda") == torch.device("cuda")
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert local_device("cpu") == torch.device("cpu")
