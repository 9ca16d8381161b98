"""Batches that come from the model that is trained, and from a state of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deepgen.config.train import CheckpointConfig
from deepgen.train.checkpoints import Checkpoints
from deepgen.train.parallel.distributed import SINGLE_PROCESS, Processes
from deepgen.train.stream import StreamState
from tests.train.parallel.test_distributed import trainer as distributed_trainer
from tests.train.parallel.together import STOPPED, Together
from tests.train.test_trainer import STEPS, Run, assert_same, everything, trainer

LEARNED = 2
"""Steps that learn from one rollout, so that a run may be cut between them."""


class Rollouts:
    """What the model answers to prompts of an order of its own; each is learned from twice.

    Args:
        shape: Of a prompt.
        rank: Of this process, which has prompts of its own.
    """

    def __init__(self, shape: Sequence[int], rank: int = 0) -> None:
        self.shape = shape
        self.rank = rank
        self.cursor = 0
        self.rollout = torch.empty(0)
        self.scores = torch.empty(0, dtype=torch.int64)

    def batches(self, model: nn.Module, step: int) -> list[Tensor]:
        if step % LEARNED == 0:
            prompts = torch.stack([self._prompt() for _ in range(4)])
            with torch.no_grad():
                # With dropout, whose random numbers are torch's global ones.
                answers = model(prompts)
            self.scores = answers.argmax(dim=1)
            self.rollout = prompts + answers.mean(dim=1).view(-1, *[1] * len(self.shape))
        place = step % LEARNED
        half = self.rollout[2 * place : 2 * place + 2]
        return [half + self.scores[2 * place : 2 * place + 2].view(-1, *[1] * len(self.shape))]

    def state(self) -> StreamState:
        return StreamState(
            values={"cursor": self.cursor},
            tensors={"rollout": self.rollout, "scores": self.scores},
        )

    def load_state(self, states: Sequence[StreamState]) -> None:
        own = states[self.rank]
        self.cursor = own.values["cursor"]
        self.rollout, self.scores = own.tensors["rollout"], own.tensors["scores"]
        assert self.scores.dtype == torch.int64

    def _prompt(self) -> Tensor:
        self.cursor += 1
        rng = torch.Generator().manual_seed(1000 * self.rank + self.cursor)
        return torch.randn(*self.shape, generator=rng)


def run(**options: Any) -> Run:
    return trainer(stream=Rollouts((3, 4, 4)), **options)


@pytest.mark.parametrize("cut", [4, 5])
def test_a_run_on_its_own_rollouts_that_was_cut_ends_as_the_unbroken_one(
    tmp_path: Path, cut: int
) -> None:
    unbroken = run()
    unbroken.run(tmp_path / "unbroken")
    first = run()
    for _ in range(cut):
        first.step()
    first.save(Checkpoints(tmp_path / "cut" / "checkpoints"))
    torch.rand(3)
    second = run()
    second.run(tmp_path / "cut")
    assert second.done == STEPS
    assert_same(second, unbroken)
    # What is learned does depend on the model, and on the order of the prompts.
    other = trainer(stream=Rollouts((3, 4, 4), rank=1))
    other.run(tmp_path / "other")
    assert not torch.equal(everything(other)["0.weight"], everything(unbroken)["0.weight"])


def roll_out(processes: Processes, folder: str, until: int) -> None:
    """Train on rollouts, each process on its own, and leave at a step."""
    made = distributed_trainer(processes)
    made.stream = Rollouts((6,), processes.rank)
    step = made.step

    def stop_in_time() -> dict[str, float]:
        if made.done == until - 1 and until < made.loop.steps:
            made.stop()
        return step()

    made.step = stop_in_time  # type: ignore[method-assign]
    made.run(Path(folder), checkpoint=CheckpointConfig(every=100))


# Those of reinforcement learning do in tests/rl/test_processes.py, at every run of the suite.
@pytest.mark.slow
def test_every_process_resumes_its_own_rollouts(tmp_path: Path) -> None:
    for name, ends in (("unbroken", [9]), ("cut", [3, 9])):
        for until in ends:
            (tmp_path / name).mkdir(exist_ok=True)
            codes = Together(roll_out, 2, str(tmp_path / name), until).exit_codes()
            assert codes == [0 if until == 9 else STOPPED] * 2
    unbroken, cut = (
        Checkpoints(tmp_path / name / "checkpoints").newest() for name in ("unbroken", "cut")
    )
    assert unbroken is not None and cut is not None
    for group in ("model", "ema", "optimizer", "stream"):
        mine, expected = cut.tensors(group), unbroken.tensors(group)
        assert mine.keys() == expected.keys()
        for name, value in mine.items():
            assert torch.equal(value, expected[name]), name
    assert not torch.equal(cut.tensors("stream")["0.rollout"], cut.tensors("stream")["1.rollout"])
    assert cut.values("trainer")["stream"] == unbroken.values("trainer")["stream"]


def test_a_stream_is_told_the_states_of_all_processes_that_saved_it(tmp_path: Path) -> None:
    assert Together(roll_out, 2, str(tmp_path), 3).exit_codes() == [STOPPED] * 2
    seen: list[Sequence[StreamState]] = []

    class Alone(Rollouts):
        def load_state(self, states: Sequence[StreamState]) -> None:
            seen.append(states)
            super().load_state(states)

    alone = distributed_trainer(SINGLE_PROCESS)
    alone.stream = Alone((6,))
    with pytest.warns(UserWarning, match="world size"):
        alone.run(tmp_path)
    [states] = seen
    assert [each.values["cursor"] for each in states] == [8, 8]
