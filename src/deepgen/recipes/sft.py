"""Stage 2, joint supervised fine-tuning (DeepGen paper, section 4.2; table 9)."""

from __future__ import annotations

from pathlib import Path

from deepgen.config.stage import StageConfig
from deepgen.config.train import OptimizerConfig


def sft() -> StageConfig:
    """Stage 2: the whole DiT and the bridge, and LoRA of rank 64 on the language model.

    The values are the published ones: micro-batches of 4 samples, on every process two of
    text-to-image and one of edits per step, 133,333 steps (the published 400,000 iterations count
    micro-batches). With 64 processes a step has 768 samples.
    """
    return StageConfig(
        stage="sft",
        output=Path("runs/sft"),
        steps=133_333,
        optimizer=OptimizerConfig(lr=5e-5),
    )
