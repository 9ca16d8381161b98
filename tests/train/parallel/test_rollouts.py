"""Sampling with a sharded model, learning through it, and training on what it sampled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deepgen.config.train import CheckpointConfig, Sharding
from deepgen.dit.model import DiT
from deepgen.model import DeepGen
from deepgen.train.checkpoints import Checkpoints
from deepgen.train.objective import FlowBatch
from deepgen.train.parallel.distributed import SINGLE_PROCESS, Processes
from deepgen.train.parallel.sharding import full_tensor, shard
from deepgen.train.sample_rng import SampleKey
from deepgen.train.stream import StreamState
from deepgen.train.trainable import make_trainable
from deepgen.types import Condition, Prompt
from tests.checkpoint.models import tiny_model
from tests.train import killing
from tests.train.parallel.together import STOPPED, Together

WAYS: list[Sharding] = ["optimizer", "full"]

SIZES = ((4, 4), (4, 8), (4, 4))
"""Image sizes: two on the first of two processes, which runs the blocks more often."""

SIGMAS = (1.0, 0.6, 0.25, 0.0)


def encoded(model: DeepGen, texts: Sequence[str]) -> list[Condition]:
    # Without gradients a conditioner runs once per new prompt, so not equally often everywhere.
    with torch.enable_grad():
        conditions, _ = model.conditioner.encode(
            [Prompt(text=each) for each in texts], [], padding="none", guided=False
        )
    return conditions


def sampled(dit: DiT, conditions: Sequence[Condition], noise: Sequence[Tensor]) -> list[Tensor]:
    """Euler's method; gradients flow through all steps."""
    sizes = [(each.shape[1], each.shape[2]) for each in noise]
    timesteps = 1000 * torch.tensor(SIGMAS[:-1])
    prepared = dit.prepare(conditions, sizes, timesteps, [[] for _ in noise])
    latents = list(noise)
    for step in range(len(timesteps)):
        velocities = dit.velocity(latents, step, prepared)
        change = SIGMAS[step + 1] - SIGMAS[step]
        latents = [x + change * v for x, v in zip(latents, velocities, strict=True)]
    return latents


def noise_of(places: Sequence[int]) -> list[Tensor]:
    rng = [torch.Generator().manual_seed(place) for place in places]
    return [
        torch.randn(16, *SIZES[place], generator=each, requires_grad=True)
        for place, each in zip(places, rng, strict=True)
    ]


def sample_and_learn(processes: Processes, folder: str, ways: Sequence[Sharding]) -> None:
    """Latents of a rollout, and gradients through a second one."""
    for sharding in ways:
        model = tiny_model()
        make_trainable(model, "sft", lora=None)
        shard(model, sharding, processes, mixed=False)
        places = (0, 1, 2) if processes.world_size == 1 else ((0, 1), (2,))[processes.rank]
        texts = [killing.WORDS[place] for place in places]
        for _ in range(2):
            model.zero_grad()
            with torch.no_grad():
                rollout = sampled(model.dit, encoded(model, texts), noise_of(places))
            noise = noise_of(places)
            through = sampled(model.dit, encoded(model, texts), noise)
            torch.stack([each.square().mean() for each in through]).sum().backward()
        gradients = {
            name: full_tensor(value.grad)
            for name, value in model.named_parameters()
            if value.grad is not None
        }
        by_noise = [each.grad for each in noise]
        torch.save(
            (places, rollout, by_noise, gradients), Path(folder, f"{sharding}_{processes.rank}.pt")
        )


def test_one_samples_with_a_sharded_model_and_learns_through_it_as_with_a_whole_one(
    tmp_path: Path,
) -> None:
    sample_and_learn(SINGLE_PROCESS, str(tmp_path), ["none"])
    assert Together(sample_and_learn, 2, str(tmp_path), WAYS).exit_codes() == [0, 0]
    _, rollout, by_noise, gradients = torch.load(tmp_path / "none_0.pt")
    assert len(gradients) > 50
    for sharding in WAYS:
        for rank in range(2):
            places, *mine, own = torch.load(tmp_path / f"{sharding}_{rank}.pt")
            for values, expected in zip(mine, (rollout, by_noise), strict=True):
                for place, value in zip(places, values, strict=True):
                    torch.testing.assert_close(value, expected[place], rtol=1e-4, atol=1e-6)
            # Of all images, on both processes.
            assert own.keys() == gradients.keys()
            for name, value in own.items():
                torch.testing.assert_close(value, gradients[name], rtol=1e-4, atol=1e-6)


class Rollouts:
    """Images that the model has sampled, which two steps learn from."""

    def __init__(self, processes: Processes) -> None:
        self.rank = processes.rank
        self.latents: list[Tensor] = []

    def batches(self, model: DeepGen, step: int) -> list[FlowBatch]:
        texts = killing.WORDS[2 * self.rank : 2 * self.rank + 2]
        if step % 2 == 0:
            with torch.no_grad():
                noise = noise_of((self.rank, 2))
                self.latents = sampled(model.dit, encoded(model, texts), noise)
        return [
            FlowBatch(
                latents=self.latents,
                prompts=[Prompt(text=each) for each in texts],
                reference_latents=[[], []],
                keys=[SampleKey(sample=f"{self.rank} {step} {place}") for place in range(2)],
                weights=torch.full((2,), 0.25),
            )
        ]

    def state(self) -> StreamState:
        tensors = {str(place): each for place, each in enumerate(self.latents)}
        return StreamState(values={"count": len(tensors)}, tensors=tensors)

    def load_state(self, states: Sequence[StreamState]) -> None:
        own = states[self.rank]
        self.latents = [own.tensors[str(place)] for place in range(own.values["count"])]


def train_on_rollouts(processes: Processes, folder: str, until: int) -> None:
    """A run that ends at step 4, or is stopped before."""
    run: Any = killing.trainer(processes, 4, "full")
    run.stream = Rollouts(processes)
    step = run.step

    def stop_in_time() -> dict[str, float]:
        if run.done == until - 1 and until < run.loop.steps:
            run.stop()
        result: dict[str, float] = step()
        return result

    run.step = stop_in_time
    run.run(Path(folder), checkpoint=CheckpointConfig(every=100))


def train_unbroken_and_cut(processes: Processes, folder: str) -> None:
    """Two runs, of which the second is stopped after step 3, with a rollout half used."""
    train_on_rollouts(processes, f"{folder}/unbroken", 4)
    train_on_rollouts(processes, f"{folder}/cut", 3)


def test_a_sharded_model_resumes_training_on_its_rollouts(tmp_path: Path) -> None:
    for name in ("unbroken", "cut"):
        (tmp_path / name).mkdir()
    assert Together(train_unbroken_and_cut, 2, str(tmp_path)).exit_codes() == [STOPPED] * 2
    group = Together(train_on_rollouts, 2, str(tmp_path / "cut"), 4)
    assert group.exit_codes() == [0, 0]
    unbroken, cut = (
        Checkpoints(tmp_path / name / "checkpoints").newest() for name in ("unbroken", "cut")
    )
    assert unbroken is not None and cut is not None
    assert (unbroken.step, cut.step) == (4, 4)
    for group_name in ("model", "ema", "optimizer", "stream"):
        mine, expected = cut.tensors(group_name), unbroken.tensors(group_name)
        assert mine.keys() == expected.keys()
        for name, value in mine.items():
            assert torch.equal(value, expected[name]), name
