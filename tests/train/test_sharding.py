"""A model that is divided among processes learns what a whole one does."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from deepgen.config.stage import Sharding
from deepgen.train.distributed import ALONE, Processes
from deepgen.train.draws import Visit
from deepgen.train.objective import FlowBatch
from deepgen.train.sharding import entire
from deepgen.types import Prompt
from tests.train import killing
from tests.train.together import Together

STEPS = 4


def uneven(step: int) -> list[FlowBatch]:
    """Three micro-batches: an edit and a drawing of two sizes, which are two passes of the DiT."""
    rng = torch.Generator().manual_seed(100 + step)
    return [
        *killing.batches(step),
        FlowBatch(
            latents=[torch.randn(16, 4, side, generator=rng) for side in (4, 8, 4)],
            prompts=[Prompt(text=each) for each in killing.WORDS[:3]],
            reference_latents=[[], [], []],
            visits=[Visit(sample=f"third {step} {place}") for place in range(3)],
            weights=torch.full((3,), 1 / 6),
        ),
    ]


def train_a_little(processes: Processes, folder: str, sharding: Sharding) -> None:
    run = killing.trainer(processes, STEPS, sharding, uneven)
    reports = [run.step() for _ in range(STEPS)]
    assert run.ema is not None
    weights = {name: entire(value.detach()) for name, value in run.trained.items()}
    averages = {name: entire(value) for name, value in run.ema.average.items()}
    if processes.is_first:
        Path(folder, "reports.json").write_text(json.dumps(reports))
        torch.save([weights, averages], Path(folder, "tensors.pt"))


def outcome(folder: Path) -> tuple[list[dict[str, float]], list[dict[str, Any]]]:
    return (
        json.loads((folder / "reports.json").read_text()),
        torch.load(folder / "tensors.pt", weights_only=True),
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    train_a_little(ALONE, str(folder), "none")
    return folder


@pytest.mark.parametrize(
    ("sharding", "world_size"), [("optimizer", 2), ("optimizer", 4), ("full", 2), ("full", 4)]
)
def test_a_divided_model_learns_what_a_whole_one_does(
    tmp_path: Path, whole: Path, sharding: Sharding, world_size: int
) -> None:
    group = Together(train_a_little, world_size, str(tmp_path), sharding)
    assert group.exit_codes() == [0] * world_size
    (reports, tensors), (expected_reports, expected_tensors) = outcome(tmp_path), outcome(whole)
    for report, expected in zip(reports, expected_reports, strict=True):
        assert report == pytest.approx(expected, rel=1e-6)
    for group_of, expected_group in zip(tensors, expected_tensors, strict=True):
        assert group_of.keys() == expected_group.keys()
        for name, value in group_of.items():
            torch.testing.assert_close(value, expected_group[name], rtol=1e-5, atol=1e-5)
