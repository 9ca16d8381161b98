"""Assembling any stage, by the type of its settings."""

from __future__ import annotations

import torch

from deepgen.config.rl import RlStageConfig
from deepgen.config.stage import StageConfig
from deepgen.stages.build import Run, build
from deepgen.stages.reinforcement import build_rl
from deepgen.train.parallel.distributed import SINGLE_PROCESS, Processes


def assemble(
    config: StageConfig, *, device: torch.device, processes: Processes = SINGLE_PROCESS
) -> Run:
    """A stage that is ready to run; see :func:`build` and :func:`build_rl`."""
    if isinstance(config, RlStageConfig):
        return build_rl(config, device=device, processes=processes)
    return build(config, device=device, processes=processes)
