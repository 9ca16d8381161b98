"""Rewards on held-out prompts, sampled as users do: the ODE, the model's steps and guidance."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from statistics import fmean
from typing import Any

from deepgen.config.rl import RlStageConfig
from deepgen.model import DeepGen
from deepgen.pipeline.pipeline import DeepGenPipeline
from deepgen.rl.prompts import Prompt, check_prompts, read_prompts
from deepgen.rl.rewards.base import Reward
from deepgen.rl.rewards.pool import RewardPool
from deepgen.train.monitor.logs import METRICS
from deepgen.train.monitor.metrics import MetricsLog

SEED_STEP, SEED_START = 1000, 42
"""Image 0 of the prompt at a place has the seed ``1000 * place + 42``."""


class RewardEvaluation:
    """Writes ``val/reward/NAME`` into a run's metrics: always the same prompts and seeds.

    Raises:
        DataError: The prompts cannot be read, or lack what a reward needs.
    """

    def __init__(self, config: RlStageConfig, rewards: Mapping[str, Reward]) -> None:
        self.log = config.output / METRICS
        self.rewards = rewards
        self.weights = config.rl.weights
        path, settings = config.rl.held_out, config.rl
        found = read_prompts(path, category=settings.category) if path is not None else ()
        self.prompts: tuple[Prompt, ...] = tuple(found)[: settings.held_out_prompts]
        check_prompts(self.prompts, rewards, self.weights)
        self.counts = {"prompts": len(self.prompts)} if self.prompts else {}

    def __call__(self, model: DeepGen, step: int) -> None:
        """Sample, measure and append a line; what fails is left out of the means."""
        pipe = DeepGenPipeline(model)
        pipe.set_progress_bar_config(disable=True)
        values: dict[str, list[float]] = {}
        with RewardPool(self.rewards, self.weights) as pool:
            pending = []
            for place, prompt in enumerate(self.prompts):
                result: Any = pipe(prompt.prompt, seed=SEED_STEP * place + SEED_START)
                pending.append(pool.submit([prompt.item(result.images[0])]))
            for rewards in pool.collect(pending):
                for name, each in rewards.items():
                    values.setdefault(name, []).extend(each.values or ())
        if failed := [name for name, found in values.items() if not found]:
            warnings.warn(f"no val/reward of {', '.join(failed)} at step {step}", stacklevel=2)
        means = {f"val/reward/{name}": fmean(found) for name, found in values.items() if found}
        MetricsLog(self.log, 1).note({"step": step, **means})
