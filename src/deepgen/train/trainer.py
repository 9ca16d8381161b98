"""One loop for every stage: a stream of batches, an objective, an optimizer.

The trainer knows nothing about diffusion. What a batch is and what its loss means is the
objective's business; which batch belongs to which step is the stream's.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from deepgen.errors import CheckpointError
from deepgen.train.ema import Ema
from deepgen.train.optim import MatrixOptimizer, warmup_cosine

Batch = TypeVar("Batch")
Model = TypeVar("Model", bound=nn.Module)

Objective = Callable[[Model, Batch, torch.Generator], dict[str, Tensor]]
"""(model, batch, randomness) -> scalars to report, of which ``loss`` is minimised."""


class Trainer(Generic[Model, Batch]):
    """Trains one model; everything it does is a function of the step, so a run can be cut anywhere.

    Args:
        model: What is trained; parameters without gradient stay as they are.
        objective: Loss of a batch.
        batches: The batch of a step, by its number alone.
        optimizer: Updates the model's parameters.
        steps: Updates in all; also the length of the learning-rate schedule.
        warmup: Updates over which the learning rate rises.
        seed: Of the randomness that objectives use; step ``k`` draws from ``seed`` and ``k``.
        max_grad_norm: Gradients are scaled down to this norm.
    """

    def __init__(
        self,
        model: Model,
        objective: Objective[Model, Batch],
        batches: Callable[[int], Batch],
        optimizer: MatrixOptimizer,
        *,
        steps: int,
        warmup: int,
        seed: int = 0,
        max_grad_norm: float = 1.0,
    ) -> None:
        self.model = model
        self.objective = objective
        self.batches = batches
        self.optimizer = optimizer
        self.ema = Ema(model)
        self.steps = steps
        self.warmup = warmup
        self.seed = seed
        self.max_grad_norm = max_grad_norm
        self.done = 0

    def step(self) -> dict[str, float]:
        """One optimizer update."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.done)
        report = self.objective(self.model, self.batches(self.done), generator)
        report["loss"].backward()
        report["grad_norm"] = nn.utils.clip_grad_norm_(self.model.parameters(), self.max_grad_norm)
        share = warmup_cosine(self.done, steps=self.steps, warmup=self.warmup)
        self.optimizer.step(self.optimizer.lr * share)
        self.optimizer.zero_grad()
        self.ema.update(self.model, self.done)
        self.done += 1
        return {name: value.item() for name, value in report.items()}

    def run(
        self,
        folder: Path,
        *,
        save_every: int = 500,
        log_every: int = 50,
        watch: Callable[[Model, int], None] | None = None,
    ) -> None:
        """Train to the end, going on from ``folder/checkpoint.pt`` if there is one.

        Args:
            folder: Holds the checkpoint and ``metrics.jsonl``.
            save_every: Updates between checkpoints.
            log_every: Updates between lines of metrics; each is the mean since the last.
            watch: Called with the average model after every checkpoint.
        """
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint = folder / "checkpoint.pt"
        if checkpoint.exists():
            self.load(checkpoint)
        sums: dict[str, float] = {}
        since = time.perf_counter()
        while self.done < self.steps:
            for name, value in self.step().items():
                sums[name] = sums.get(name, 0.0) + value
            if self.done % log_every == 0:
                now = time.perf_counter()
                means = {name: value / log_every for name, value in sums.items()}
                line = {"step": self.done, **means, "steps_per_second": log_every / (now - since)}
                with (folder / "metrics.jsonl").open("a", encoding="utf-8") as log:
                    log.write(json.dumps(line) + "\n")
                sums, since = {}, now
            if self.done % save_every == 0 or self.done == self.steps:
                self.save(checkpoint)
                if watch is not None:
                    watch(self.ema.model, self.done)

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on as if nothing had happened."""
        return {
            "done": self.done,
            "steps": self.steps,
            "model": self.model.state_dict(),
            "ema": self.ema.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def save(self, path: Path) -> None:
        """Write a checkpoint; it appears whole or not at all."""
        aside = path.with_suffix(".tmp")
        torch.save(self.state_dict(), aside)
        aside.replace(path)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint of the same run."""
        state = torch.load(path, weights_only=True)
        if state["steps"] != self.steps:
            raise CheckpointError(
                f"{path} is of a run of {state['steps']} steps, this one has {self.steps}; "
                "train in another folder or with the same number of steps"
            )
        self.model.load_state_dict(state["model"])
        self.ema.model.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.done = state["done"]
