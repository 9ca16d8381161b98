"""One loop for every stage: a stream of batches, an objective, an optimizer.

The trainer knows nothing about diffusion. What a batch is and what its loss means is the
objective's business; which batches belong to which step is the stream's.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from deepgen.config.train import CheckpointConfig, LoggingConfig
from deepgen.errors import StoppedError, TrainingError
from deepgen.train.checkpoints import Checkpoint, Checkpoints
from deepgen.train.ema import Ema
from deepgen.train.gradients import clip_gradients
from deepgen.train.identity import RunIdentity, environment_of
from deepgen.train.loop import LoopConfig, Monitoring
from deepgen.train.monitor.metrics import Observer
from deepgen.train.monitor.record import RunRecord
from deepgen.train.monitor.report import StepReport
from deepgen.train.monitor.speed import DeviceRates
from deepgen.train.objective import Loss
from deepgen.train.oom_hint import oom_hint
from deepgen.train.optim import Optimizer
from deepgen.train.parallel.distributed import check_equal
from deepgen.train.parallel.sharding import Parallelism
from deepgen.train.saving import SaveTimes, Saving
from deepgen.train.skips import Skips, not_finite
from deepgen.train.snapshots import Snapshots
from deepgen.train.state import frozen_digest, seeded
from deepgen.train.stopping import handling_signals
from deepgen.train.stream import BatchStream

Batch = TypeVar("Batch")
Model = TypeVar("Model", bound=nn.Module)

Objective = Callable[[Model, Batch, torch.Generator], Loss]
"""(model, micro-batch, randomness) -> its part of the loss of the step."""

STREAM = 1
"""Tells the random numbers of a stream from those of micro-batches."""


class Trainer(Generic[Model, Batch]):
    """Trains one model; everything it does is a function of the step, so a run can be cut anywhere.

    Args:
        model: What is trained; parameters without gradient stay as they are.
        objective: Loss of a micro-batch.
        stream: Gives the micro-batches of a step; of several processes each gets every
            ``world_size``-th one, from that of its rank on, which may be none.
        optimizer: Updates the model's parameters.
        loop: Number of steps, learning rate, seed.
        ema: EMA of the trained weights, updated after every step.
        identity: What the run is recognised by besides its model and the arguments here.
        parallel: The processes that train together, and what is sharded among them.
        monitoring: What is measured.
    """

    def __init__(
        self,
        model: Model,
        objective: Objective[Model, Batch],
        stream: BatchStream[Model, Batch],
        optimizer: Optimizer,
        loop: LoopConfig,
        *,
        ema: Ema | None = None,
        identity: RunIdentity | None = None,
        parallel: Parallelism | None = None,
        monitoring: Monitoring | None = None,
    ) -> None:
        self.model = model
        self.objective = objective
        self.stream = stream
        self.optimizer = optimizer
        self.loop = loop
        self.ema = ema
        self.parallel = parallel or Parallelism()
        self.processes, self.shards = self.parallel.processes, self.parallel.shards
        self.monitoring = monitoring or Monitoring()
        self.trained = {
            name: value for name, value in model.named_parameters() if value.requires_grad
        }
        identity = identity or RunIdentity()
        compared = {
            "steps": loop.steps,
            "seed": loop.seed,
            "optimizer": type(optimizer).__name__,
            "ema_decay": None if ema is None else ema.decay,
        }
        self.identity = replace(
            identity,
            compared={**compared, **identity.compared},
            shapes={name: tuple(value.shape) for name, value in self.trained.items()},
            # Now, since parts of a model (the vision tower) may be loaded later.
            frozen=frozen_digest(model, self.trained.keys()),
            environment=environment_of(next(iter(self.trained.values())).device, self.processes),
        )
        self.done = 0
        """Steps done, skipped ones included."""
        self.report = StepReport()
        """Report of the last step, of all processes."""
        self._work: dict[str, float] = {}
        self._notes: list[dict[str, Any]] = []
        self._skips = Skips()
        self._snapshots = Snapshots(
            trained=self.trained,
            optimizer=optimizer,
            ema=ema,
            identity=self.identity,
            parallel=self.parallel,
        )
        self._saving = Saving()
        self._save_times = SaveTimes()
        self._was_signalled = False
        self._evaluation_pending = False
        """Whether images were due when a signal came; they are made on resuming."""

    @property
    def skipped(self) -> int:
        """Steps skipped because their loss or gradient could not be used."""
        return self._skips.count

    @oom_hint()
    def step(self) -> dict[str, float]:
        """One optimizer step, accumulated over its micro-batches.

        All processes make the same step, or skip it together.

        Returns:
            What the objective reports, the gradient's norm and the learning rate; of a skipped step
            only that it was skipped.

        Raises:
            TrainingError: Too many steps were skipped, or one needs too much memory.
        """
        phase = self.monitoring.clock.phase
        self._notes = []
        losses = []
        with phase("data"):
            # A stream may run the model, dropout included.
            seeded(self.loop.seed, self.done, self.processes.rank, STREAM)
            own = self.stream.batches(self.model, self.done)
        batches = own if self.shards is None else self.processes.pad_with_dummies(own)
        for place, batch in enumerate(batches):
            if self.shards is not None:
                self.shards.set_is_last_microbatch(place == len(batches) - 1)
            # By its place among those of all processes, so that their number changes nothing.
            whole = self.processes.rank + place * self.processes.world_size
            generator = seeded(self.loop.seed, self.done, whole)
            with phase("forward"):
                # The objective's sample weights sum to 1 over the whole step.
                loss = self.objective(self.model, batch, generator)
            # A dummy micro-batch only keeps step with processes that have more.
            counts = place < len(own)
            with phase("backward"):
                (loss.total if counts else 0 * loss.total).backward()
            if counts:
                losses.append(loss)
        with phase("communication"):
            if self.shards is None:
                self.processes.sum_gradients(self.trained.values())
        with phase("optimizer"):
            norm, norms = clip_gradients(
                self.trained, self.monitoring.parts, self.loop.max_grad_norm
            )
        with phase("communication"):
            self._gather_reports(losses)
        lr = self.optimizer.lr * self.loop.schedule(self.done)
        reason = self.report.skip or self._skips.reason(self.report.total, norm.item())
        with phase("optimizer"):
            if reason is None:
                self.optimizer.step(lr)
                if self.ema is not None:
                    self.ema.update(self.done)
            self.optimizer.zero_grad()
        self.done += 1
        if reason is not None:
            self._skip(losses, reason)
            return {"skipped": 1.0}
        note = self._skips.record_step(norm.item())
        if note is not None:
            self._notes.append(note)
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
        checkpoint: CheckpointConfig | None = None,
        logging: LoggingConfig | None = None,
        evaluate: Callable[[Model, int], None] | None = None,
        observers: Sequence[Observer] = (),
        rates: DeviceRates | None = None,
        start: Checkpoint | None = None,
    ) -> None:
        """Train to the end, resuming from the newest checkpoint if there is one.

        Args:
            folder: Holds ``checkpoints/``, ``metrics.jsonl`` and ``replacements.jsonl``.
            checkpoint: When checkpoints are written, and which are kept.
            logging: How often metrics are written, each the mean since the last line, and how often
                ``evaluate`` is called.
            evaluate: Called with the model, with its EMA weights if it has them, every so often and
                at the end.
            observers: Informed of the progress, on the first process.
            rates: Of this process's device, see :class:`deepgen.train.monitor.speed.Speed`.
            start: Where a run without a checkpoint of its own begins.

        Raises:
            CheckpointError: All checkpoints are damaged, or the newest is of another run.
            StoppedError: A signal asked for it; a checkpoint of this moment has been written.
            TrainingError: Losses are not numbers, memory is short, or nothing can be saved.
        """
        checkpoint, logging = checkpoint or CheckpointConfig(), logging or LoggingConfig()
        folder.mkdir(parents=True, exist_ok=True)
        checkpoints = Checkpoints(folder / "checkpoints", checkpoint.keep, checkpoint.keep_every)
        record = RunRecord(
            folder,
            logging.every,
            processes=self.processes,
            clock=self.monitoring.clock,
            observers=observers,
            rates=rates,
        )
        self._begin(checkpoints, record, start)
        seconds = None if checkpoint.minutes is None else 60 * checkpoint.minutes
        self._save_times = SaveTimes(checkpoint.every, checkpoint.keep_every, seconds=seconds)
        evaluate_every = logging.sample_every or checkpoint.every
        try:
            with handling_signals(self.stop, answers=self.processes.is_rank_zero), self._saving:
                if self._evaluation_pending:
                    self._evaluate(evaluate)
                while self.done < self.loop.steps:
                    values = self.step()
                    record.add(self.done, values, self.report, self._work, self._notes)
                    last = self.done == self.loop.steps
                    failure = self.report.stop
                    stops = (self.report.was_signalled and not last) or bool(failure)
                    timely = self._save_times.include(self.done) or self.report.is_save_due
                    saves = timely or last or stops
                    if self.report.has_saved or saves:
                        # The checkpoint before, written during the last steps.
                        self._attempt(self._saving.finish)
                    is_due = last or self.done % evaluate_every == 0
                    # A signal waits for no image; otherwise a run resumed from here makes none.
                    self._evaluation_pending = is_due and stops
                    if is_due and not stops:
                        self._evaluate(evaluate)
                    if saves:
                        save = partial(self.save, checkpoints, record.state())
                        self._attempt(save, must=last or stops)
                        self._save_times.restart()
                    if last or stops:
                        self._attempt(self._saving.finish, must=True)
                    if failure:
                        raise TrainingError(f"{failure}; saved at step {self.done}")
                    if stops:
                        raise StoppedError(
                            f"stopped and saved at step {self.done} of {self.loop.steps}; run the "
                            "same command to resume"
                        )
        finally:
            record.end()

    def stop(self) -> None:
        """Ask all processes to save and leave after the step they are in."""
        self._was_signalled = True

    def save(self, checkpoints: Checkpoints, log: Mapping[str, Any] | None = None) -> Path | None:
        """Write a checkpoint: only what is trained, and everything needed to resume.

        Of a sharded model only a copy is taken, which is written during the next steps.

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
        step = self.done
        loop = {
            "step": step,
            "learning_rate_factor": self.loop.schedule(step),
            "evaluation_pending": self._evaluation_pending,
            **self._skips.state(),
            "log": log or {"sums": {}, "counts": {}, "totals": {}},
        }
        tensors, values = self._snapshots.take(self.stream, loop)
        if self.shards is None:
            return self.processes.on_rank_zero(lambda: checkpoints.write(step, tensors, values))
        copies, background = self._saving.copied(tensors), self.processes.in_background()
        self._saving.start(lambda: checkpoints.write_sharded(step, copies, values, background))
        return None

    def check(self, checkpoint: Checkpoint, *, is_branch: bool = False) -> None:
        """See that :meth:`load` would accept a checkpoint.

        Raises:
            CheckpointError: It is of another model or another run.
        """
        self._snapshots.check(checkpoint, is_branch=is_branch)

    def load(self, checkpoint: Checkpoint, *, is_branch: bool = False) -> dict[str, Any]:
        """Resume from a checkpoint of the same run, and return the state of its metrics.

        Args:
            checkpoint: Of this run, or for a branch of another.
            is_branch: This is a new run that starts from it, possibly with other settings.

        Raises:
            CheckpointError: It is of another model or another run. Nothing has changed then.
        """
        saved = self._snapshots.check(checkpoint, is_branch=is_branch)
        changes = self.identity.changed_environment(saved)
        loop = self._snapshots.restore(checkpoint, self.stream)
        self.done = loop["step"]
        self._evaluation_pending = not is_branch and loop.get("evaluation_pending", False)
        self._skips.load_state(loop)
        if changes is not None:
            self._warn(
                f"{checkpoint.path} is resumed with {changes}: equal in distribution, not bit for "
                "bit"
            )
        log: dict[str, Any] = loop["log"]
        return log

    def _gather_reports(self, losses: Sequence[Loss]) -> None:
        """Merge what all processes report of a step."""
        self._work = {}
        for loss in losses:
            for name, amount in loss.work.items():
                self._work[name] = self._work.get(name, 0.0) + amount
        replacement_source = self.monitoring.replacement_source
        own = StepReport.of(
            losses,
            replacements=[]
            if replacement_source is None
            else replacement_source.take_replacements(),
            was_signalled=self._was_signalled,
            has_saved=self._saving.is_done,
            is_save_due=self._save_times.are_over(),
        )
        self.report = StepReport.merged(self.processes.gather(own))
        if replacement_source is not None:
            replacement_source.count_replacements(self.report.replacements)

    def _begin(self, checkpoints: Checkpoints, record: RunRecord, start: Checkpoint | None) -> None:
        """Resume from a checkpoint of the run, or of another one."""
        own = self.processes.on_rank_zero(checkpoints.newest)
        found = own or start
        log = {} if found is None else self.load(found, is_branch=own is None)
        self._check_equal()
        if own is None:
            # A start that was killed before its first checkpoint may have written something.
            record.clear()
        if found is not None:
            record.resume(found.step, log)
        known = record.begin(self.done, self.loop.steps)
        if self.monitoring.replacement_source is not None:
            self.monitoring.replacement_source.replay(known)

    def _attempt(self, action: Callable[[], Path | None], must: bool = False) -> None:
        """Save or wait for a save, which may fail once or twice; see :meth:`Saving.attempt`."""
        with self.monitoring.clock.phase("save"):
            warning = self._saving.attempt(action, self.done, must=must)
        if warning is not None:
            self._warn(warning)

    def _check_equal(self) -> None:
        """See that all processes have the same weights; in a sharded model each has its own."""
        if self.shards is None:
            check_equal(self.trained.values(), self.processes, self.done)

    def _warn(self, message: str) -> None:
        """Warn once, not on every process."""
        if self.processes.is_rank_zero:
            warnings.warn(message, stacklevel=3)

    def _skip(self, losses: Sequence[Loss], reason: str) -> None:
        """Count a skipped step, and end the run if there are too many."""
        if self.report.skip:
            # Nobody's fault here; whoever says so also says when there are too many.
            self._warn(f"step {self.done} was skipped, as it had {reason}")
            return
        own = list(not_finite(losses)), [name for loss in losses for name in loss.sample_ids]
        gathered = self.processes.gather(own)
        # With every loss finite it was the gradient, which does not say whose it is.
        samples = [name for bad, _ in gathered for name in bad] or [
            name for _, every in gathered for name in every
        ]
        self._notes.append({"skipped_samples": samples})
        self._warn(self._skips.skip(self.done, reason, samples))

    def _evaluate(self, evaluate: Callable[[Model, int], None] | None) -> None:
        """Call it with the model as it is used: with EMA weights, and without dropout."""
        if evaluate is None:
            return
        training = self.model.training
        self.model.eval()
        with self.monitoring.clock.phase("images"), ExitStack() as stack:
            if self.processes.is_rank_zero or self.shards is not None:
                if self.ema is not None:
                    stack.enter_context(self.ema.applied())
                if self.shards is not None:
                    stack.enter_context(self.shards.gathered())
            # All others wait here, not in a collective of the next step, which has a time limit.
            self.processes.on_rank_zero(lambda: evaluate(self.model, self.done))
        self.model.train(training)
