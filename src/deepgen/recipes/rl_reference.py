"""Stage 3 with the rollouts of the published code, for comparison (DeepGen paper, section 4.3)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from deepgen.config.rl import PolicyConfig, RlConfig, RlStageConfig, RolloutConfig
from deepgen.recipes.rl import rl


def rl_reference() -> RlStageConfig:
    """Stage 3 as in the published code: 50 noisy steps, 30 of them trained, divergence over var.

    Four to five times the work of ``rl``. Its learning rate is that of ``rl``, since an iteration
    is one optimizer step here.
    """
    rollout = RolloutConfig(steps=50, window=None, trained_fraction=0.6, eta=1.0)
    policy = PolicyConfig(divergence="v_over_var", beta=5e-7, sft_weight=1e-4)
    return replace(
        rl(), output=Path("runs/rl_reference"), rl=RlConfig(rollout=rollout, policy=policy)
    )
