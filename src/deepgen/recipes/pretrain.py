"""Stage 1, alignment pre-training (DeepGen paper, section 4.1; table 9)."""

from __future__ import annotations

from pathlib import Path

from deepgen.config.stage import StageConfig
from deepgen.config.train import OptimizerConfig


def pretrain() -> StageConfig:
    """Connector, projectors and think tokens learn to speak to a DiT that stays as it is.

    The values are the published ones: 4 samples a pass, on every process one pass of edits and
    three of drawings an update, 50,000 updates (the published 200,000 iterations count passes).
    64 processes thus learn from 1,024 samples an update.
    """
    return StageConfig(
        stage="pretrain",
        output=Path("runs/pretrain"),
        steps=50_000,
        optimizer=OptimizerConfig(lr=1e-4),
    )
