import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from deepgen.config.train import LoggingConfig
from deepgen.train.monitor.report import StepReport
from deepgen.train.objective import Loss
from tests.train.test_trainer import STEPS, batches, trainer


def clipped(values: Sequence[float]) -> Loss:
    """A micro-batch with a token a value, and the fraction of them above 1."""
    tokens = torch.tensor(values)
    return Loss(
        total=tokens.sum(),
        parts={"loss": tokens.sum()},
        means={"clip_fraction": ((tokens > 1).sum(), len(tokens)), "kl": (tokens.sum(), 2.5)},
    )


def report(losses: Sequence[Loss]) -> StepReport:
    return StepReport.of(
        losses, replacements=(), was_signalled=False, has_saved=False, is_save_due=False
    )


def test_means_are_those_over_all_that_was_counted_on_all_processes() -> None:
    one = report([clipped([2.0]), clipped([0.0, 0.0, 3.0])])
    other = report([clipped([0.0] * 6)])
    together = StepReport.merged([one, other])
    # Not the mean of 1, 1/3 and 0.
    assert together.means["clip_fraction"] == (2, 10)
    assert together.means["kl"] == (5.0, 7.5)
    assert together.parts["loss"] == together.total == 5.0
    # A process that computed nothing changes nothing.
    assert StepReport.merged([one, other, report([])]).means == together.means


def test_a_line_of_the_log_divides_by_the_counts_of_all_its_steps(tmp_path: Path) -> None:
    place = 0

    def objective(model: nn.Module, batch: Tensor, generator: torch.Generator) -> Loss:
        nonlocal place
        place += 1
        total = model(batch).square().sum()
        means = {"mean": (torch.tensor(float(place == 2)), torch.tensor(place)), "none": (total, 0)}
        return Loss(total=total, parts={}, means=means)

    trainer(objective=objective).run(tmp_path, logging=LoggingConfig(every=STEPS))
    [line] = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    # The mean of the quotients would be a 48th.
    assert line["mean"] == pytest.approx(1 / sum(range(1, place + 1)))
    assert "none" not in line
    assert place == STEPS * len(batches(0))
