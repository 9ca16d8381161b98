from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from deepgen.config.train import CheckpointConfig
from deepgen.errors import TrainingError
from deepgen.train.checkpoints import Checkpoints
from deepgen.train.oom_hint import oom_hint
from tests.train.test_trainer import batches, trainer


def test_an_update_that_is_too_large_says_what_needs_less_and_keeps_what_was_saved(
    tmp_path: Path,
) -> None:
    def growing(step: int) -> list[Tensor]:
        # No machine has an exbibyte.
        return batches(step) if step < 5 else [torch.empty(1 << 58)]

    with pytest.raises(
        TrainingError, match=r"--checkpoint-activations .* --microbatch-size"
    ) as why:
        trainer(batches=growing).run(tmp_path, checkpoint=CheckpointConfig(every=2))
    assert "asked for another 1152921504606846976 bytes" in str(why.value)
    assert "\n" not in str(why.value)
    newest = Checkpoints(tmp_path / "checkpoints").newest()
    assert newest is not None and newest.step == 4


def test_that_of_a_gpu_is_told_too_and_other_failures_come_as_they_are() -> None:
    said = "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 9 GiB"
    with pytest.raises(TrainingError, match=r"another 2\.50 GiB"), oom_hint():
        raise torch.OutOfMemoryError(said)
    with pytest.raises(TrainingError, match="than there is; "), oom_hint():
        raise MemoryError
    with pytest.raises(RuntimeError, match="shapes"), oom_hint():
        raise RuntimeError("shapes differ")
