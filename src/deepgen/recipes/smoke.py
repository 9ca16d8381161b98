"""A run of a minute on a CPU, to see that everything holds together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from deepgen.config.stage import StageConfig
from deepgen.config.train import CheckpointConfig, LoggingConfig, LoraConfig, OptimizerConfig
from deepgen.recipes.sft import sft


def smoke() -> StageConfig:
    """Stage 2 for a minute on a CPU, with the embedded model."""
    return replace(
        sft(),
        output=Path("runs/smoke"),
        steps=20,
        microbatch_size=2,
        t2i_microbatches=2,
        edit_microbatches=1,
        optimizer=OptimizerConfig(lr=1e-4, warmup_ratio=0.1),
        lora=LoraConfig(rank=4, alpha=8.0),
        checkpoint=CheckpointConfig(every=10),
        logging=LoggingConfig(every=5),
    )
