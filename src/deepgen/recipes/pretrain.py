"""Stage 1, alignment pre-training (DeepGen paper, section 4.1; table 9)."""

from __future__ import annotations

from pathlib import Path

from deepgen.config.stage import StageConfig
from deepgen.config.train import OptimizerConfig


def pretrain() -> StageConfig:
    """Stage 1, alignment: connector, projectors and think tokens learn for a frozen DiT.

    The values are the published ones: micro-batches of 4 samples, on every process three of
    text-to-image and one of edits per step, 50,000 steps (the published 200,000 iterations count
    micro-batches). With 64 processes a step has 1,024 samples.
    """
    return StageConfig(
        stage="pretrain",
        output=Path("runs/pretrain"),
        steps=50_000,
        optimizer=OptimizerConfig(lr=1e-4),
    )
