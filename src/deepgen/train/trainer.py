"""One loop for every stage: a stream of batches, an objective, an optimizer.

The trainer knows nothing about diffusion. What a batch is and what its loss means is the
objective's business; which batches belong to which step is the stream's.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from deepgen.checkpoint.files import listed
from deepgen.errors import CheckpointError, StoppedError, TrainingError
from deepgen.train.checkpoints import Checkpoint, Checkpoints
from deepgen.train.ema import Ema
from deepgen.train.gradients import clip_gradients
from deepgen.train.identity import RunIdentity, environment_of
from deepgen.train.memory import telling_what_needs_less
from deepgen.train.monitor.journal import Substituting
from deepgen.train.monitor.metrics import Observer
from deepgen.train.monitor.record import RunRecord
from deepgen.train.monitor.report import Report
from deepgen.train.monitor.speed import Clock
from deepgen.train.monitor.spikes import EXCESSIVE, Spikes
from deepgen.train.objective import Loss
from deepgen.train.optim import Optimizer
from deepgen.train.parallel.distributed import ALONE, Processes, check_equal
from deepgen.train.parallel.sharding import Shards
from deepgen.train.saving import SaveTimes, Saving
from deepgen.train.state import (
    frozen_digest,
    random_states,
    restore_random_states,
    seeded,
)
from deepgen.train.stopping import noting_signals

Batch = TypeVar("Batch")
Model = TypeVar("Model", bound=nn.Module)

Objective = Callable[[Model, Batch, torch.Generator], Loss]
"""(model, micro-batch, randomness) -> its share of the loss of the update."""

SKIPS_IN_A_ROW = 3
"""Updates left out in a row after which a run ends: one is chance, three are a broken model."""

MAX_SKIPPED_SHARE = 0.001
"""Of all updates so far, above which a run ends too; the first three are always allowed."""

FAILED_SAVES_IN_A_ROW = 3
"""Checkpoints that could not be written after which a run ends."""


class Trainer(Generic[Model, Batch]):
    """Trains one model; everything it does is a function of the step, so a run can be cut anywhere.

    Args:
        model: What is trained; parameters without gradient stay as they are.
        objective: Loss of a micro-batch.
        batches: The micro-batches of a step, by its number alone; of several processes each gets
            every ``world_size``-th one, from that of its rank on, which may be none.
        optimizer: Updates the model's parameters.
        steps: Updates in all.
        schedule: Share of the optimizer's learning rate at a step.
        seed: Of the randomness that belongs to no sample: dropout, and what objectives draw per
            micro-batch.
        max_grad_norm: Gradients are scaled down to this norm.
        ema: Average of the trained weights that follows every update.
        identity: What the run is recognised by besides its model and the arguments here.
        processes: Those that train together. Their number may differ after a restart.
        parts: Which part of the model each parameter is of, by name, for the norms of gradients.
        substituting: Told which samples were replaced before, and asked which are now.
        clock: Times the phases of updates.
        shards: What the model is divided into among them; None where each has all of it.
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
        identity: RunIdentity | None = None,
        processes: Processes = ALONE,
        parts: Mapping[str, str] | None = None,
        substituting: Substituting | None = None,
        clock: Clock | None = None,
        shards: Shards | None = None,
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
        self.processes = processes
        self.parts = parts or {}
        self.substituting = substituting
        self.clock = clock or Clock()
        self.shards = shards
        identity = identity or RunIdentity()
        compared = {
            "steps": steps,
            "seed": seed,
            "optimizer": type(optimizer).__name__,
            "ema_decay": None if ema is None else ema.decay,
        }
        self.identity = replace(
            identity,
            compared={**compared, **identity.compared},
            shapes={name: tuple(value.shape) for name, value in self.trained.items()},
            # Now, since parts of a model (the vision tower) may be loaded later.
            frozen=frozen_digest(model, self.trained.keys()),
            environment=environment_of(next(iter(self.trained.values())).device, processes),
        )
        self.done = 0
        self.skipped = 0
        """Updates left out because their loss or gradient could not be used."""
        self.report = Report()
        """Of the last update, by all processes."""
        self.work: dict[str, float] = {}
        """What this process did for it."""
        self._skipped_in_a_row: list[list[str]] = []
        self._saving = Saving()
        self._failed_saves_in_a_row = 0
        self._spikes = Spikes()
        self._notes: list[dict[str, Any]] = []
        self._was_signalled = False
        self._times = SaveTimes()

    @telling_what_needs_less()
    def step(self) -> dict[str, float]:
        """One optimizer update, accumulated over the micro-batches of the step.

        All processes make the same update, or leave it out together.

        Returns:
            What the objective reports, the gradient's norm and the learning rate; of an update
            that was left out only that it was.

        Raises:
            TrainingError: Too many updates had to be left out, or one needs too much memory.
        """
        phase = self.clock.phase
        self._notes = []
        losses = []
        with phase("data"):
            own = self.batches(self.done)
        batches = own if self.shards is None else self.processes.level(own)
        for place, batch in enumerate(batches):
            if self.shards is not None:
                self.shards.expect(last=place == len(batches) - 1)
            # By its place among those of all processes, so that their number changes nothing.
            whole = self.processes.rank + place * self.processes.world_size
            generator = seeded(self.seed, self.done, whole)
            with phase("forward"):
                # The objective's sample weights sum to 1 over the whole update.
                loss = self.objective(self.model, batch, generator)
            # What was lent only keeps the others company.
            counts = place < len(own)
            with phase("backward"):
                (loss.total if counts else 0 * loss.total).backward()
            if counts:
                losses.append(loss)
        with phase("exchange"):
            if self.shards is None:
                self.processes.sum_gradients(self.trained.values())
        with phase("update"):
            norm, norms = clip_gradients(self.trained, self.parts, self.max_grad_norm)
        with phase("exchange"):
            self._agree(losses)
        lr = self.optimizer.lr * self.schedule(self.done)
        reason = self._unusable(norm.item())
        with phase("update"):
            if reason is None:
                self.optimizer.step(lr)
                if self.ema is not None:
                    self.ema.update(self.done)
            self.optimizer.zero_grad()
        self.done += 1
        if reason is not None:
            self._skip(losses, reason)
            return {"skipped": 1.0}
        self._skipped_in_a_row.clear()
        return {
            **self.report.parts,
            "grad_norm": norm.item(),
            **{f"grad_norm/{part}": each.item() for part, each in norms.items()},
            "lr": lr,
            "skipped": 0.0,
        }

    def run(
        self,
        folder: Path,
        *,
        save_every: int = 500,
        save_seconds: float | None = None,
        log_every: int = 50,
        keep: int = 3,
        keep_every: int | None = None,
        watch: Callable[[Model, int], None] | None = None,
        watch_every: int | None = None,
        observers: Sequence[Observer] = (),
        matrix_rate: float | None = None,
        start: Checkpoint | None = None,
    ) -> None:
        """Train to the end, going on from the newest checkpoint if there is one.

        Args:
            folder: Holds ``checkpoints/``, ``metrics.jsonl`` and ``substitutions.jsonl``.
            save_every: Updates between checkpoints.
            save_seconds: Time after which there is one too, whatever the number of updates.
            log_every: Updates between lines of metrics; each is the mean since the last.
            keep: How many checkpoints are kept.
            keep_every: At multiples of this many updates there is one too, which stays.
            watch: Called with the model, or the average model, every so often and at the end.
            watch_every: Updates between such calls; by default, as ``save_every``.
            observers: Told how the run gets on, on the first process.
            matrix_rate: See :class:`deepgen.train.monitor.speed.Speed`.
            start: Where a run without a checkpoint of its own begins.

        Raises:
            CheckpointError: All checkpoints are damaged, or the newest is of another run.
            StoppedError: A signal asked for it; a checkpoint of this moment has been written.
            TrainingError: Losses are no numbers, memory is short, or nothing can be saved.
        """
        folder.mkdir(parents=True, exist_ok=True)
        checkpoints = Checkpoints(folder / "checkpoints", keep, keep_every)
        record = RunRecord(
            folder,
            log_every,
            processes=self.processes,
            clock=self.clock,
            observers=observers,
            matrix_rate=matrix_rate,
        )
        self._begin(checkpoints, record, start)
        self._times = SaveTimes(save_every, keep_every, seconds=save_seconds)
        try:
            with noting_signals(self.stop, answers=self.processes.is_first), self._saving:
                while self.done < self.steps:
                    means = self.step()
                    record.add(self.done, means, self.report, self.work, self._notes)
                    last = self.done == self.steps
                    leaves = self.report.was_signalled and not last
                    timely = self._times.include(self.done) or self.report.is_save_due
                    due = timely or last or leaves
                    if self.report.has_saved or due:
                        # The one before, which was written during the last updates.
                        self._heed(self._saving.finish)
                    if last or (self.done % (watch_every or save_every) == 0 and not leaves):
                        # A start from its checkpoint will not; a signal waits for no image.
                        self._show(watch)
                    if due:
                        self._heed(partial(self.save, checkpoints, record.state()), last or leaves)
                        self._times.restart()
                    if last or leaves:
                        self._heed(self._saving.finish, must=True)
                    if leaves:
                        raise StoppedError(
                            f"stopped and saved at step {self.done} of {self.steps}; the same "
                            "command goes on from there"
                        )
        finally:
            record.end()

    def stop(self) -> None:
        """Ask all processes to save and leave after the update they are in."""
        self._was_signalled = True

    def save(self, checkpoints: Checkpoints, log: Mapping[str, Any] | None = None) -> Path | None:
        """Write a checkpoint: only what is trained, and everything needed to go on.

        Of a divided model only a copy is taken, which is written during the next updates.

        Args:
            checkpoints: Where to.
            log: State of the metrics.

        Returns:
            Where it is; None if it is still being written.

        Raises:
            CheckpointError: It cannot be written.
            TrainingError: The processes no longer have the same weights.
        """
        self._check_equal()
        tensors: dict[str, Mapping[str, Tensor]] = {"model": self.trained}
        tensors["optimizer"] = self.optimizer.tensors()
        if self.ema is not None:
            tensors["ema"] = self.ema.average
        trainer = {
            "identity": self.identity.saved(),
            "step": self.done,
            "learning_rate_share": self.schedule(self.done),
            "skipped": self.skipped,
            "skipped_in_a_row": self._skipped_in_a_row,
            "gradient_norms": self._spikes.state(),
            "log": log or {"sums": {}, "counts": {}, "totals": {}},
        }
        step = self.done
        values: dict[str, Mapping[str, Any]] = {"trainer": copy.deepcopy(trainer)}
        values["random"] = random_states()
        if self.identity.settings is not None:
            values["config"] = self.identity.settings
        if self.shards is None:
            return self.processes.by_first(lambda: checkpoints.write(step, tensors, values))
        copies, beside = self._saving.copied(tensors), self.processes.beside()
        self._saving.start(lambda: checkpoints.write_divided(step, copies, values, beside))
        return None

    def check(self, checkpoint: Checkpoint) -> None:
        """See that :meth:`load` would take a checkpoint.

        Raises:
            CheckpointError: It is of another model or another run.
        """
        self.identity.check_same(RunIdentity.read(checkpoint), checkpoint.path)

    def load(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """Go on from a checkpoint of the same run, and return the state of its metrics.

        Raises:
            CheckpointError: It is of another model or another run. Nothing has changed then.
        """
        self.check(checkpoint)
        trainer = checkpoint.values("trainer")
        weights = checkpoint.tensors("model", self.trained)
        averages = checkpoint.tensors("ema", self.trained) if self.ema is not None else {}
        self.optimizer.load_tensors(checkpoint.tensors("optimizer", self.trained))
        with torch.no_grad():
            for name, value in self.trained.items():
                value.copy_(weights[name])
                if self.ema is not None:
                    self.ema.average[name].copy_(averages[name])
        self.done = trainer["step"]
        self.skipped = trainer["skipped"]
        self._skipped_in_a_row = trainer["skipped_in_a_row"]
        self._spikes.load(trainer["gradient_norms"])
        restore_random_states(checkpoint.values("random"))
        changes = self.identity.changed_environment(RunIdentity.read(checkpoint))
        if changes is not None:
            self._warn(
                f"{checkpoint.path} is resumed with {changes}: equal in distribution, not to the "
                "bit"
            )
        log: dict[str, Any] = trainer["log"]
        return log

    def _agree(self, losses: Sequence[Loss]) -> None:
        """Put together what all processes have to say about an update."""
        self.work = {}
        for loss in losses:
            for name, amount in loss.work.items():
                self.work[name] = self.work.get(name, 0.0) + amount
        replaced = [] if self.substituting is None else self.substituting.take_substitutions()
        own = Report.of(
            losses,
            substitutions=replaced,
            was_signalled=self._was_signalled,
            has_saved=self._saving.is_done,
            is_save_due=self._times.are_over(),
        )
        self.report = Report.joined(self.processes.gather(own))
        if self.substituting is not None:
            self.substituting.count_substitutions(self.report.substitutions)

    def _begin(self, checkpoints: Checkpoints, record: RunRecord, start: Checkpoint | None) -> None:
        """Go on where an earlier start of the run, or another run, left off."""
        own = self.processes.by_first(checkpoints.newest)
        found = own or start
        log = {} if found is None else self.load(found)
        self._check_equal()
        if own is None:
            # What a start wrote that was killed before its first checkpoint is written again.
            record.clear()
        if found is not None:
            record.resume(found.step, log)
        known = record.begin(self.done, self.steps)
        if self.substituting is not None:
            self.substituting.replay(known)

    def _heed(self, action: Callable[[], Path | None], must: bool = False) -> None:
        """Do something about a checkpoint that may fail once or twice; it returns one that is done.

        Args:
            action: Saves, or waits for what is being saved.
            must: Whether there will be no other try.

        Raises:
            TrainingError: It failed and must not, or it was the third failure in a row.
        """
        try:
            with self.clock.phase("save"):
                if action() is not None:
                    self._failed_saves_in_a_row = 0
        except CheckpointError as cause:
            self._failed_saves_in_a_row += 1
            if must or self._failed_saves_in_a_row == FAILED_SAVES_IN_A_ROW:
                raise TrainingError(f"{cause}; the run ends at step {self.done}") from cause
            self._warn(f"{cause}; training goes on and tries again")

    def _check_equal(self) -> None:
        """See that nobody has gone astray; of a divided model everybody has something else."""
        if self.shards is None:
            check_equal(self.trained.values(), self.processes, self.done)

    def _warn(self, message: str) -> None:
        """Warn once, not on every process."""
        if self.processes.is_first:
            warnings.warn(message, stacklevel=3)

    def _skip(self, losses: Sequence[Loss], reason: str) -> None:
        """Count an update that was left out, and end the run if they do not stop."""
        own_bad = [
            name
            for loss in losses
            for name, value in zip(
                loss.names,
                [math.nan] * len(loss.names) if loss.samples is None else loss.samples.tolist(),
                strict=True,
            )
            if not math.isfinite(value)
        ]
        said = self.processes.gather((own_bad, [name for loss in losses for name in loss.names]))
        bad = [name for each, _ in said for name in each]
        # With every loss finite it was the gradient, which does not say whose it is.
        names = bad or [name for _, each in said for name in each]
        self.skipped += 1
        self._skipped_in_a_row.append(names)
        self._notes.append({"skipped_samples": names})
        self._warn(f"step {self.done} had {reason}; samples: {listed(names)}; it was left out")
        if len(self._skipped_in_a_row) == SKIPS_IN_A_ROW:
            every = ", ".join(name for step in self._skipped_in_a_row for name in step)
            raise TrainingError(
                f"{SKIPS_IN_A_ROW} steps in a row up to {self.done} had to be left out, the last "
                f"because it had {reason}; samples: {every}. Look at these samples, or "
                "lower the learning rate"
            )
        if self.skipped > max(SKIPS_IN_A_ROW, MAX_SKIPPED_SHARE * self.done):
            raise TrainingError(
                f"{self.skipped} of {self.done} steps had to be left out, the last because it had "
                f"{reason}; at most {MAX_SKIPPED_SHARE:.1%} may. metrics.jsonl names their "
                "samples: look at them, or lower the learning rate"
            )

    def _unusable(self, norm: float) -> str | None:
        """Why an update with a gradient of this norm is left out; None if it is made."""
        if not math.isfinite(norm + self.report.total):
            return "no finite loss and gradient"
        if self._spikes.is_excessive(norm):
            return (
                f"a gradient of norm {norm:.3g}, more than {EXCESSIVE:.0f} times the usual "
                f"{self._spikes.median():.3g}"
            )
        if self._spikes.is_notable(norm):
            self._notes.append({"spike": norm, "usual": self._spikes.median()})
        self._spikes.add(norm)
        return None

    def _show(self, watch: Callable[[Model, int], None] | None) -> None:
        """Have the model looked at as it is used: averaged, and without dropout."""
        if watch is None:
            return
        training = self.model.training
        self.model.eval()
        with self.clock.phase("images"), ExitStack() as stack:
            if self.processes.is_first or self.shards is not None:
                if self.ema is not None:
                    stack.enter_context(self.ema.applied())
                if self.shards is not None:
                    stack.enter_context(self.shards.gathered())
            # All others wait here, not in a collective of the next step, which has a time limit.
            self.processes.by_first(lambda: watch(self.model, self.done))
        self.model.train(training)
