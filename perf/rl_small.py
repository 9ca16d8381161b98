"""The stage ``rl`` in small: what scripts about reinforcement learning of the mini share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from deepgen.config.rl import Estimator, Objective, RlStageConfig, RolloutConfig
from deepgen.recipes.rl import rl


def small_stage(
    prompts: Path,
    output: Path,
    rollout: RolloutConfig,
    *,
    reward: str,
    iterations: int,
    lr: float,
    microbatch_size: int = 32,
    seed: int = 0,
    objective: Objective = "grpo",
    estimator: Estimator = "gdpo",
    beta: float = 0.0,
) -> RlStageConfig:
    """The recipe with one reward and no supervised loss, by default without a reference policy."""
    preset = rl()
    return replace(
        preset,
        output=output,
        seed=seed,
        steps=iterations,
        microbatch_size=microbatch_size,
        t2i_microbatches=0,
        edit_microbatches=0,
        optimizer=replace(preset.optimizer, lr=lr, warmup_ratio=0.05),
        rl=replace(
            preset.rl,
            prompts=(prompts,),
            rewards={reward: {}},
            weights={"general": {reward: 1.0}},
            rollout=rollout,
            policy=replace(preset.rl.policy, sft_weight=0.0, objective=objective, beta=beta),
            advantages=replace(preset.rl.advantages, estimator=estimator),
        ),
    )
