"""Fine-tuning by adapters on the DiT, for one consumer GPU and a few images; not in the paper."""

from __future__ import annotations

from pathlib import Path

from deepgen.config.stage import StageConfig
from deepgen.config.train import LoraConfig, OptimizerConfig


def lora() -> StageConfig:
    """Adapters on the DiT, for one consumer GPU and a few images.

    There are few moments and gradients, and what was learned is a small file.
    """
    return StageConfig(
        stage="lora",
        output=Path("runs/lora"),
        steps=1000,
        microbatch_size=1,
        optimizer=OptimizerConfig(lr=1e-4, weight_decay=0.0),
        lora=LoraConfig(rank=16, alpha=16.0, dropout=0.0),
    )
