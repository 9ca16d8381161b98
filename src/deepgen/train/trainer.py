"""One loop for every stage: a stream of batches, an objective, an optimizer.

The trainer knows nothing about diffusion. What a batch is and what its loss means is the
objective's business; which batches belong to which step is the stream's.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from deepgen.checkpoint.files import listed
from deepgen.errors import CheckpointError, TrainingError
from deepgen.train.checkpoints import Checkpoint, Checkpoints
from deepgen.train.ema import Ema
from deepgen.train.metrics import MetricsLog
from deepgen.train.objective import Loss
from deepgen.train.optim import Optimizer
from deepgen.train.state import frozen_digest, random_states, restore_random_states

Batch = TypeVar("Batch")
Model = TypeVar("Model", bound=nn.Module)

Objective = Callable[[Model, Batch, torch.Generator], Loss]
"""(model, micro-batch, randomness) -> its share of the loss of the update."""

SKIPS_IN_A_ROW = 3
"""Updates without a finite loss after which a run ends: one is chance, three are a broken model."""

FAILED_SAVES_IN_A_ROW = 3
"""Checkpoints that could not be written after which a run ends."""


class Trainer(Generic[Model, Batch]):
    """Trains one model; everything it does is a function of the step, so a run can be cut anywhere.

    Args:
        model: What is trained; parameters without gradient stay as they are.
        objective: Loss of a micro-batch.
        batches: The micro-batches of a step, by its number alone.
        optimizer: Updates the model's parameters.
        steps: Updates in all.
        schedule: Share of the optimizer's learning rate at a step.
        seed: Of the randomness that belongs to no sample: dropout, and what objectives draw per
            micro-batch.
        max_grad_norm: Gradients are scaled down to this norm.
        ema: Average of the trained weights that follows every update.
        identity: Whatever else makes a run this run, as plain values: data, objective, sizes. A
            checkpoint in which it differs is refused.
    """

    def __init__(
        self,
        model: Model,
        objective: Objective[Model, Batch],
        batches: Callable[[int], Sequence[Batch]],
        optimizer: Optimizer,
        *,
        steps: int,
        schedule: Callable[[int], float],
        seed: int = 0,
        max_grad_norm: float = 1.0,
        ema: Ema | None = None,
        identity: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model
        self.objective = objective
        self.batches = batches
        self.optimizer = optimizer
        self.trained = {
            name: value for name, value in model.named_parameters() if value.requires_grad
        }
        self.ema = ema
        self.steps = steps
        self.schedule = schedule
        self.seed = seed
        self.max_grad_norm = max_grad_norm
        self.identity = {"steps": steps, "seed": seed, **(identity or {})}
        self.done = 0
        self.skipped = 0
        """Updates left out because their loss or gradient was not finite."""
        self._skipped_in_a_row: list[list[str]] = []

    def step(self) -> dict[str, float]:
        """One optimizer update, accumulated over the micro-batches of the step.

        Returns:
            What the objective reports, the gradient's norm and the learning rate; of an update
            that was left out only that it was.

        Raises:
            TrainingError: The third update in a row without a finite loss and gradient.
        """
        losses = []
        for place, batch in enumerate(self.batches(self.done)):
            generator = self._seed(place)
            # The objective's sample weights sum to 1 over the whole update.
            loss = self.objective(self.model, batch, generator)
            loss.total.backward()
            losses.append(loss)
        norm = nn.utils.clip_grad_norm_(self.trained.values(), self.max_grad_norm)
        total = torch.stack([loss.total.detach() for loss in losses]).sum()
        lr = self.optimizer.lr * self.schedule(self.done)
        finite = bool(torch.isfinite(norm + total))
        if finite:
            self.optimizer.step(lr)
            if self.ema is not None:
                self.ema.update(self.done)
        self.optimizer.zero_grad()
        self.done += 1
        if not finite:
            self._skip(losses)
            return {"skipped": 1.0}
        self._skipped_in_a_row.clear()
        parts: dict[str, float] = {}
        for loss in losses:
            for name, value in loss.parts.items():
                parts[name] = parts.get(name, 0.0) + value.item()
        return {**parts, "grad_norm": norm.item(), "lr": lr, "skipped": 0.0}

    def run(
        self,
        folder: Path,
        *,
        save_every: int = 500,
        log_every: int = 50,
        keep: int = 3,
        watch: Callable[[Model, int], None] | None = None,
    ) -> None:
        """Train to the end, going on from the newest checkpoint if there is one.

        Args:
            folder: Holds ``checkpoints/`` and ``metrics.jsonl``.
            save_every: Updates between checkpoints.
            log_every: Updates between lines of metrics; each is the mean since the last.
            keep: How many checkpoints are kept.
            watch: Called with the model, or the average model, after every checkpoint.

        Raises:
            CheckpointError: All checkpoints are damaged, or the newest is of another run.
            TrainingError: Losses are no numbers, or checkpoints cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        checkpoints = Checkpoints(folder / "checkpoints", keep)
        log = MetricsLog(folder / "metrics.jsonl", log_every)
        failures = 0
        found = checkpoints.newest()
        if found is not None:
            log.resume(found.step, self.load(found))
        while self.done < self.steps:
            log.add(self.done + 1, self.step())
            if self._skipped_in_a_row:
                log.note({"step": self.done, "skipped_samples": self._skipped_in_a_row[-1]})
            last = self.done == self.steps
            if self.done % save_every == 0 or last:
                try:
                    self.save(checkpoints, log.state())
                    failures = 0
                except CheckpointError as cause:
                    failures += 1
                    if last or failures == FAILED_SAVES_IN_A_ROW:
                        raise TrainingError(f"{cause}; the run ends at step {self.done}") from cause
                    warnings.warn(f"{cause}; training goes on and tries again", stacklevel=2)
                if watch is not None:
                    self._show(watch)

    def save(self, checkpoints: Checkpoints, log: Mapping[str, Any] | None = None) -> Path:
        """Write a checkpoint: only what is trained, and everything needed to go on.

        Args:
            checkpoints: Where to.
            log: State of the metrics.
        """
        tensors: dict[str, Mapping[str, Tensor]] = {
            "model": self.trained,
            "optimizer": self.optimizer.tensors(),
        }
        if self.ema is not None:
            tensors["ema"] = self.ema.average
        trainer = {
            "identity": self.identity,
            "frozen": self._frozen,
            "step": self.done,
            "learning_rate_share": self.schedule(self.done),
            "skipped": self.skipped,
            "skipped_in_a_row": self._skipped_in_a_row,
            "log": log or {"sums": {}, "counts": {}},
            "torch": torch.__version__,
        }
        values = {"trainer": trainer, "random": random_states()}
        return checkpoints.write(self.done, tensors, values)

    def load(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """Go on from a checkpoint of the same run, and return the state of its metrics.

        Raises:
            CheckpointError: It is of another model or another run. Nothing has changed then.
        """
        trainer = checkpoint.values("trainer")
        weights = checkpoint.tensors("model")
        self._check_same(checkpoint.path, trainer, weights)
        averages = checkpoint.tensors("ema") if self.ema is not None else {}
        self.optimizer.load_tensors(checkpoint.tensors("optimizer"))
        with torch.no_grad():
            for name, value in self.trained.items():
                value.copy_(weights[name])
                if self.ema is not None:
                    self.ema.average[name].copy_(averages[name])
        self.done = trainer["step"]
        self.skipped = trainer["skipped"]
        self._skipped_in_a_row = trainer["skipped_in_a_row"]
        restore_random_states(checkpoint.values("random"))
        log: dict[str, Any] = trainer["log"]
        return log

    @cached_property
    def _frozen(self) -> str:
        return frozen_digest(self.model, self.trained.keys())

    def _seed(self, place: int) -> torch.Generator:
        """Randomness of a micro-batch: a generator, and torch's global one, for dropout."""
        words = np.random.SeedSequence((self.seed, self.done, place)).generate_state(1, np.uint64)
        seed = int(words[0])
        torch.manual_seed(seed)
        return torch.Generator().manual_seed(seed)

    def _skip(self, losses: Sequence[Loss]) -> None:
        """Count an update that was left out, and end the run if they do not stop."""
        bad = [
            name
            for loss in losses
            for name, value in zip(
                loss.names,
                [math.nan] * len(loss.names) if loss.samples is None else loss.samples.tolist(),
                strict=True,
            )
            if not math.isfinite(value)
        ]
        # With every loss finite it was the gradient, which does not say whose it is.
        names = bad or [name for loss in losses for name in loss.names]
        self.skipped += 1
        self._skipped_in_a_row.append(names)
        what = f"step {self.done} had no finite loss and gradient; samples: {listed(names)}"
        warnings.warn(f"{what}; it was left out", stacklevel=3)
        if len(self._skipped_in_a_row) == SKIPS_IN_A_ROW:
            every = [name for step in self._skipped_in_a_row for name in step]
            raise TrainingError(
                f"{SKIPS_IN_A_ROW} steps in a row up to {self.done} had no finite loss and "
                f"gradient; samples: {', '.join(every)}. Look at these samples, or lower the "
                "learning rate"
            )

    def _show(self, watch: Callable[[Model, int], None]) -> None:
        """Have the model looked at as it is used: averaged, and without dropout."""
        training = self.model.training
        self.model.eval()
        if self.ema is None:
            watch(self.model, self.done)
        else:
            with self.ema.applied():
                watch(self.model, self.done)
        self.model.train(training)

    def _check_same(
        self, path: Path, trainer: Mapping[str, Any], weights: Mapping[str, Tensor]
    ) -> None:
        """Refuse checkpoints of other models and other runs, and say how they differ."""
        theirs = {name: tuple(value.shape) for name, value in weights.items()}
        mine = {name: tuple(value.shape) for name, value in self.trained.items()}
        different = [name for name in {**mine, **theirs} if mine.get(name) != theirs.get(name)]
        if different:
            raise CheckpointError(
                f"{path} is of another model or stage: it differs in {listed(different)}"
            )
        if trainer["frozen"] != self._frozen:
            raise CheckpointError(
                f"{path} was trained on other frozen weights; start from the same model, or train "
                "in another folder"
            )
        for name in sorted({*self.identity, *trainer["identity"]}):
            one, other = trainer["identity"].get(name), self.identity.get(name)
            if one != other:
                raise CheckpointError(
                    f"{path} is of a run with {name} {one}, this one has {other}; train in another "
                    f"folder or with the same {name}"
                )
