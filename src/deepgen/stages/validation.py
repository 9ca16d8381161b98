"""The loss on held-out samples: always the same ones, with the same noise."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from pathlib import Path

import torch

from deepgen.data.dataset import DataSet
from deepgen.data.latents import LatentCache
from deepgen.data.loader import Loader, LoaderOptions, TaskPlan
from deepgen.data.records import Task
from deepgen.errors import DataError
from deepgen.model import DeepGen
from deepgen.stages.batches import FlowBatches
from deepgen.train.monitor.metrics import MetricsLog
from deepgen.train.objective import FlowBatch
from deepgen.train.trainer import Objective

SAMPLES_OF_A_TASK = 128
"""At most. Losses of samples vary mostly with their noise levels, which are always the same here;
so differences between steps of a run have far less variance than the losses."""


class Validation:
    """Writes ``val/loss`` into a run's metrics.

    Problems with held-out samples never end a run: a task whose samples all exceed the model's
    limits is left out with a warning.

    Args:
        max_bad_fraction: Fraction of a task's samples that may be damaged; with more there is no
            line.
    """

    def __init__(
        self,
        data: DataSet,
        log: Path,
        objective: Objective[DeepGen, FlowBatch],
        *,
        tasks: Collection[Task],
        side: int,
        max_bad_fraction: float,
        latent_cache: LatentCache | None,
    ) -> None:
        self.log = log
        self.objective = objective
        self.counts: dict[Task, int] = {}
        self._loaders: dict[Task, Loader] = {}
        # One by one, so that a sample has the same loss in any company.
        one = TaskPlan(microbatch_size=1, microbatches=1)
        for task in tasks:
            count = len(data.rows(task=task, split="val"))
            if not count:
                continue
            options = LoaderOptions(
                tasks={task: one}, seed=0, side=side, split="val", max_bad_fraction=max_bad_fraction
            )
            try:
                self._loaders[task] = Loader(data, options, latent_cache=latent_cache)
            except DataError as cause:
                warnings.warn(f"no val/loss/{task}: {cause}", stacklevel=2)
                continue
            self.counts[task] = min(count, SAMPLES_OF_A_TASK)

    @torch.no_grad()
    def __call__(self, model: DeepGen, step: int) -> None:
        """Compute the losses and append a line; unreadable samples cost the line, not the run."""
        sums: dict[Task, float] = {}
        try:
            for task, loader in self._loaders.items():
                shortened = model.conditioner.tokenize.shortened
                batches = FlowBatches(loader, model.vae, shortened=shortened)
                sums[task] = sum(
                    float(self.objective(model, batch, torch.Generator()).total)
                    for place in range(self.counts[task])
                    for batch in batches(place)
                )
        except DataError as cause:
            warnings.warn(f"no val/loss at step {step}: {cause}", stacklevel=2)
            return
        if not sums:
            return
        means = {f"val/loss/{task}": each / self.counts[task] for task, each in sums.items()}
        mean = sum(sums.values()) / sum(self.counts.values())
        MetricsLog(self.log, 1).note({"step": step, "val/loss": mean, **means})
