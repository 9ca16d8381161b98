"""Stage 3 with adapters on the DiT, as in Flow-GRPO (arXiv 2505.05470); not in the paper."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from deepgen.config.rl import RlStageConfig
from deepgen.config.train import LoraConfig
from deepgen.recipes.rl import rl


def rl_lora() -> RlStageConfig:
    """Stage 3 with adapters on the DiT; the policy without them is the reference policy.

    Rank, alpha and learning rate are those of Flow-GRPO.
    """
    preset = rl()
    return replace(
        preset,
        stage="rl_lora",
        output=Path("runs/rl_lora"),
        optimizer=replace(preset.optimizer, lr=3e-4),
        lora=LoraConfig(rank=32, alpha=64.0, dropout=0.0),
    )
