"""Stage 3, reinforcement learning with MR-GRPO (DeepGen paper, section 4.3)."""

from __future__ import annotations

from pathlib import Path

from deepgen.config.rl import RlConfig, RlStageConfig
from deepgen.config.train import CheckpointConfig, LoggingConfig, OptimizerConfig

ITERATIONS = 1500
WARMUP = 20


def rl() -> RlStageConfig:
    """Stage 3: the whole DiT learns from rewards of its own images.

    1,500 iterations with a constant learning rate after 20 of warm-up, as published; rollouts are
    those of the preset ``fast``. The published learning rate, 2e-6, is that of code which steps
    after every timestep; with one step per iteration 1e-5 is where others begin.
    """
    return RlStageConfig(
        stage="rl",
        output=Path("runs/rl"),
        steps=ITERATIONS,
        microbatch_size=8,
        optimizer=OptimizerConfig(
            lr=1e-5, beta2=0.999, weight_decay=0.0, warmup_ratio=WARMUP / ITERATIONS
        ),
        checkpoint=CheckpointConfig(every=50),
        logging=LoggingConfig(every=1),
        rl=RlConfig(),
    )
