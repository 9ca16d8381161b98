import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from deepgen.errors import CheckpointError
from deepgen.train.optim import MatrixOptimizer, warmup_cosine
from deepgen.train.trainer import Trainer


def model() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 4, 2))
    # Convolutions train in this layout, in which a kernel's flat patch is a copy, not a view.
    return layers.to(memory_format=torch.channels_last)


def batches(step: int) -> Tensor:
    return torch.randn(4, 3, 4, 4, generator=torch.Generator().manual_seed(step))


def noisy_square(layers: nn.Module, batch: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    target = torch.randn(4, 2, generator=generator)
    return {"loss": (layers(batch) - target).square().mean()}


def trainer(steps: int = 12) -> Trainer[nn.Sequential, Tensor]:
    layers = model()
    optimizer = MatrixOptimizer(layers.named_parameters(), lr=1e-2)
    return Trainer(layers, noisy_square, batches, optimizer, steps=steps, warmup=3)


def weights(run: Trainer[nn.Sequential, Tensor]) -> list[Tensor]:
    return [*run.model.state_dict().values(), *run.ema.model.state_dict().values()]


@pytest.mark.parametrize("cut", [1, 5, 11])
def test_a_run_that_was_cut_ends_with_the_same_weights(tmp_path: Path, cut: int) -> None:
    unbroken = trainer()
    unbroken.run(tmp_path / "unbroken")
    first = trainer()
    for _ in range(cut):
        first.step()
    first.save(tmp_path / "checkpoint.pt")
    second = trainer()
    second.run(tmp_path)
    assert second.done == 12
    for mine, expected in zip(weights(second), weights(unbroken), strict=True):
        assert torch.equal(mine, expected)


def test_training_lowers_the_loss() -> None:
    layers = model()
    optimizer = MatrixOptimizer(layers.named_parameters(), lr=3e-2)

    def square(module: nn.Module, batch: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        return {"loss": (module(batch) - 1).square().mean()}

    run = Trainer(layers, square, lambda step: batches(0), optimizer, steps=60, warmup=5)
    losses = [run.step()["loss"] for _ in range(60)]
    assert losses[-1] < 0.1 * losses[0]


def test_a_checkpoint_of_a_run_of_another_length_is_refused(tmp_path: Path) -> None:
    trainer(12).save(tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError, match="12 steps, this one has 20"):
        trainer(20).load(tmp_path / "checkpoint.pt")


def test_metrics_are_written_as_the_run_goes(tmp_path: Path) -> None:
    trainer().run(tmp_path, log_every=4)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 8, 12]
    assert all(line["loss"] > 0 and line["grad_norm"] > 0 for line in lines)


def test_the_learning_rate_rises_then_falls() -> None:
    shares = [warmup_cosine(step, steps=100, warmup=10) for step in range(100)]
    assert shares[0] < shares[5] < shares[10]
    assert shares[10] > shares[50] > shares[99] > 0
