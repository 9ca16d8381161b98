"""A small run of joint fine-tuning that is killed again and again.

Runs are forked from a process that has imported everything and computed nothing, so that a run
starts in a fraction of a second.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from deepgen.config.train import CheckpointConfig, LoggingConfig, LoraConfig, Sharding
from deepgen.flow.schedule import training_sigmas
from deepgen.model import DeepGen
from deepgen.train.ema import Ema
from deepgen.train.identity import RunIdentity
from deepgen.train.loop import LoopConfig
from deepgen.train.objective import FlowBatch, FlowObjective
from deepgen.train.optim import AdamW, warmup_then_cosine
from deepgen.train.parallel.distributed import Processes
from deepgen.train.parallel.sharding import Parallelism, shard
from deepgen.train.sample_rng import SampleKey, SampleRng
from deepgen.train.stream import ByStep
from deepgen.train.trainable import make_trainable
from deepgen.train.trainer import Trainer
from deepgen.types import Prompt
from deepgen.vae import Posterior
from tests.checkpoint.models import tiny_model
from tests.train.parallel.together import Together

WORDS = ("a red cube", "two cats", "rain", "an old map of the coast")
TIMEOUT_SECONDS = 240
"""Longer than any run of the tests takes to get on, on a busy machine too."""


def batches(step: int) -> list[FlowBatch]:
    """Two micro-batches: drawings, and an edit."""
    rng = torch.Generator().manual_seed(step)

    def posterior() -> Posterior:
        mean = torch.randn(16, 4, 8, generator=rng)
        return Posterior(mean, torch.full_like(mean, 0.1))

    pixels = torch.rand(3, 32, 64, generator=rng) * 2 - 1
    drawings = [SampleKey(sample=f"drawing {step} {place}") for place in range(2)]
    return [
        FlowBatch(
            latents=[posterior() for _ in drawings],
            prompts=[Prompt(text=WORDS[(step + place) % 4]) for place in range(2)],
            reference_latents=[[], []],
            keys=drawings,
            weights=torch.full((2,), 1 / 3),
        ),
        FlowBatch(
            latents=[posterior()],
            prompts=[Prompt(text="make it blue", references=(pixels,))],
            reference_latents=[[posterior()]],
            keys=[SampleKey(sample=f"edit {step}")],
            weights=torch.full((1,), 1 / 3),
        ),
    ]


def trainer(
    processes: Processes,
    steps: int,
    sharding: Sharding = "none",
    batches: Callable[[int], list[FlowBatch]] = batches,
    *,
    mixed: bool = False,
) -> Trainer[DeepGen, FlowBatch]:
    """A run of a tiny model; ``mixed`` computes in bfloat16, as on GPUs."""
    model = tiny_model()
    if mixed:
        model.bfloat16()
    make_trainable(model, "sft", lora=LoraConfig(rank=2, dropout=0.1), seed=1)
    shards = shard(model, sharding, processes, mixed=mixed)
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    return Trainer(
        model,
        FlowObjective(
            training_sigmas(model.schedule),
            SampleRng(0, "sft"),
            caption_drop=0.1,
            autocast=torch.bfloat16 if mixed else None,
        ),
        ByStep(lambda step: batches(step)[processes.rank :: processes.world_size]),
        AdamW(trained.items(), lr=1e-3),
        LoopConfig(steps=steps, schedule=partial(warmup_then_cosine, steps=steps, warmup=3)),
        ema=Ema(trained),
        identity=RunIdentity(settings={"steps": steps}),
        parallel=Parallelism(processes=processes, shards=shards),
    )


def train(processes: Processes, folder: str, steps: int, sharding: Sharding = "none") -> None:
    """The run, or what is left of it; every step is saved."""
    trainer(processes, steps, sharding).run(
        Path(folder), checkpoint=CheckpointConfig(every=1, keep=2), logging=LoggingConfig(every=4)
    )


class Killer:
    """Starts runs and ends them with SIGKILL.

    Args:
        steps: Updates of each run.
        seed: Of the times of kills.
        world_size: Processes of each run; they are killed together.
        sharding: What they shard.
        timeout_seconds: How long a run may take.
    """

    def __init__(
        self,
        steps: int,
        seed: int,
        world_size: int = 1,
        sharding: Sharding = "none",
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self.steps = steps
        self.times = random.Random(seed)
        self.world_size = world_size
        self.sharding = sharding
        self.timeout_seconds = timeout_seconds

    def finish(self, folder: Path) -> None:
        """Let a run come to its end."""
        codes = self._start(folder).exit_codes()
        assert codes == [0] * self.world_size, f"the run ended with {codes}"

    def kill(self, folder: Path, *, saving: bool, within_seconds: float) -> bool:
        """Let a run get on, then kill it; return whether a checkpoint was half written.

        Args:
            folder: Of the run.
            saving: Kill as soon as it is seen to write a checkpoint, else at a random moment.
            within_seconds: The latest such moment, counted from the first new checkpoint.
        """
        before = self._done(folder)
        run = self._start(folder)
        deadline = time.perf_counter() + self.timeout_seconds
        while self._done(folder) == before and run.is_alive():
            assert time.perf_counter() < deadline, "the run does not get on"
            time.sleep(0.001)
        if saving:
            while run.is_alive() and not self._partial(folder):
                time.sleep(0.0005)
            time.sleep(self.times.uniform(0, 0.005))
        else:
            time.sleep(self.times.uniform(0, within_seconds))
        run.kill()
        assert run.exit_codes()[0] == -9, (
            "the run was over before it was killed; give it more steps"
        )
        return self._partial(folder)

    def _start(self, folder: Path) -> Together:
        folder.mkdir(exist_ok=True)
        return Together(
            train,
            self.world_size,
            str(folder),
            self.steps,
            self.sharding,
            timeout_seconds=self.timeout_seconds,
        )

    def _done(self, folder: Path) -> str:
        return max((each.name for each in (folder / "checkpoints").glob("step_*")), default="")

    def _partial(self, folder: Path) -> bool:
        return any((folder / "checkpoints").glob(".step_*.partial"))


def step_seconds(folder: Path) -> float:
    """How long the last step of a finished run took."""
    times = [each.stat().st_mtime for each in (folder / "checkpoints").glob("step_*")]
    return max(times) - min(times)


def outcome(folder: Path, steps: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Hashes of all that a run ended with, and its log without times.

    Of tensors their values are hashed, since torch's distributed checkpoint writes its notes on
    them in any order.
    """
    path = folder / "checkpoints" / f"step_{steps:08}"
    hashes = dict(json.loads((path / "manifest.json").read_text())["files"])
    for each in path.glob("*.safetensors"):
        hashes[each.name] = {
            name: hashlib.sha256(value.numpy().tobytes()).hexdigest()
            for name, value in load_file(each).items()
        }
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        # What is noted of a single step, as a spike, has none.
        line.pop("speed", None)
    return hashes, lines
