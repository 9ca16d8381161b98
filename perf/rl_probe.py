"""Does the loop of reinforcement learning climb a reward that is easy to learn?

``python perf/rl_probe.py`` trains the embedded model for a few iterations, always on the same
prompts with new noise, on the redness of the image: mean of the red channel minus the mean of the
others. A run on another reward that does not climb has then a difficult reward or wrong settings,
not a fault of the loop. The cosine between gradients of single groups says how much of a gradient
is signal: with 0 all of it is noise of the samples. The record is ``perf/results/rl_probe.json``.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from measure import environment, write
from rl_small import small_stage
from rl_wordings import prompts_of
from torch import Tensor

from deepgen.config.rl import RlStageConfig, RolloutConfig
from deepgen.rl.prompts import Prompt, write_prompts
from deepgen.rl.rewards.base import Reward
from deepgen.scoring.answers import Answer, AnswerStatus
from deepgen.scoring.scorer import ScorerInput
from deepgen.stages.reinforcement import build_rl

KEYS = {"reward": "reward/redness", "spread": "reward_std/redness"}


class Always:
    """A stream of prompts that has the same in every iteration."""

    def __init__(self, prompts: Sequence[Prompt]) -> None:
        self.prompts = prompts

    def take(self, first: int, count: int) -> Sequence[Prompt]:
        """All of them."""
        return self.prompts


class Redness:
    """How much more red than green and blue an image has, from -1 to 1."""

    identity: Mapping[str, str] = MappingProxyType({})
    bounds = (-1.0, 1.0)
    name = "redness"

    def score(self, inputs: Sequence[ScorerInput]) -> list[Answer[float]]:
        """Of every image."""
        found = []
        for each in inputs:
            pixels = np.asarray(each.image, dtype=np.float64) / 255
            value = float(pixels[..., 0].mean() - pixels[..., 1:].mean())
            found.append(Answer(status=AnswerStatus.SCORED, value=value))
        return found


def settings_of(arguments: argparse.Namespace, lr: float, folder: Path) -> RlStageConfig:
    """The recipe; a micro-batch is a group."""
    rollout = RolloutConfig(
        prompts=arguments.prompts,
        group_size=arguments.group_size,
        steps=arguments.steps,
        window=arguments.window or None,
        trained_fraction=0.4,
        scaling=arguments.scaling,
        shared_noise=False,
    )
    return small_stage(
        folder / "train.jsonl",
        folder / "run",
        rollout,
        reward="redness",
        iterations=arguments.iterations,
        lr=lr,
        microbatch_size=arguments.group_size * rollout.trained,
    )


def climbed(arguments: argparse.Namespace, lr: float, folder: Path) -> dict[str, Any]:
    """Mean reward, its spread inside groups and the cosine between gradients, by iteration."""
    prompts = prompts_of(["two objects, rephrased"], "train", arguments.prompts)
    write_prompts(folder / "train.jsonl", prompts)
    config = settings_of(arguments, lr, folder)
    reward = Reward(name="redness", scorer=Redness())
    run = build_rl(config, device=torch.device("cpu"), rewards={"redness": reward})
    trainer: Any = run.trainer
    trainer.stream.setting = replace(trainer.stream.setting, prompts=Always(prompts))
    rng = torch.Generator().manual_seed(0)
    lines: dict[str, Any] = {"reward": [], "spread": [], "cosine": []}
    for iteration in range(arguments.iterations):
        batches = trainer.stream.batches(run.model, iteration)
        trainer.optimizer.zero_grad()
        sums: list[Tensor] = []
        for batch in batches:
            for name, key in KEYS.items():
                if key in batch.metrics:
                    total, count = batch.metrics[key]
                    lines[name].append(round(total / count, 5))
            trainer.objective(run.model, batch, rng).total.backward()
            grads = [each.grad for each in run.model.parameters() if each.grad is not None]
            sums.append(torch.cat([each.flatten() for each in grads]))
        own = [sums[0], *(after - before for before, after in pairwise(sums))]
        cosines = [float(torch.cosine_similarity(a, b, dim=0)) for a, b in combinations(own, 2)]
        lines["cosine"].append(round(float(np.mean(cosines)), 4))
        trainer.optimizer.step(lr)
        print(iteration, {name: each[-1] for name, each in lines.items()}, flush=True)
    run.close()
    return lines


def main() -> None:
    """Every learning rate, then the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lrs", type=float, nargs="+", default=[3e-5, 1e-4, 3e-4])
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--prompts", type=int, default=2)
    parser.add_argument("--group-size", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5, help="of a rollout")
    parser.add_argument("--window", type=int, default=0, help="0: all steps")
    parser.add_argument("--scaling", choices=("cps", "gauss", "equal"), default="cps")
    parser.add_argument("--name", default="rl_probe")
    arguments = parser.parse_args()
    runs = {}
    for lr in arguments.lrs:
        with tempfile.TemporaryDirectory() as folder:
            runs[str(lr)] = climbed(arguments, lr, Path(folder))
        print(lr, runs[str(lr)]["reward"], flush=True)
    settings = {name: value for name, value in vars(arguments).items() if name != "name"}
    write(arguments.name, {"settings": settings, "runs": runs, **environment()})


if __name__ == "__main__":
    main()
