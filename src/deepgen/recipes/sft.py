"""Stage 2, joint supervised fine-tuning (DeepGen paper, section 4.2; table 9)."""

from __future__ import annotations

from pathlib import Path

from deepgen.config.stage import StageConfig
from deepgen.config.train import OptimizerConfig


def sft() -> StageConfig:
    """The whole DiT and the bridge, and LoRA of rank 64 on the language model.

    The values are the published ones: 4 samples a pass, on every process one pass of edits and two
    of drawings an update, 133,333 updates (the published 400,000 iterations count passes). 64
    processes thus learn from 768 samples an update.
    """
    return StageConfig(
        stage="sft",
        output=Path("runs/sft"),
        steps=133_333,
        optimizer=OptimizerConfig(lr=5e-5),
    )
