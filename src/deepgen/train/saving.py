"""When checkpoints are due, and writing them in the background while training continues."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

from deepgen.errors import CheckpointError, TrainingError

FAILURES_IN_A_ROW = 3
"""Checkpoints that could not be written after which a run ends."""

REUSES_COPIES = torch.__version__ >= "2.13"
"""torch 2.11 and 2.12 clear the tables of their stager after its first copies."""


def _copier() -> DefaultStager:
    """It reuses its copies at every save: the work before has been finished by then."""
    on_gpu = torch.cuda.is_available()
    return DefaultStager(
        StagingOptions(
            use_pinned_memory=on_gpu,
            use_shared_memory=False,
            use_async_staging=False,
            use_non_blocking_copy=on_gpu,
        )
    )


class SaveTimes:
    """When a run saves: at multiples of numbers of steps, and when the last save is too long ago.

    Args:
        every: Numbers of steps; None is ignored.
        seconds: Time after which a save is due; None is never.
    """

    def __init__(self, *every: int | None, seconds: float | None = None) -> None:
        self._every = [each for each in every if each is not None]
        self._seconds = seconds
        self.restart()

    def restart(self) -> None:
        """Measure the time from now on."""
        self._end = math.inf if self._seconds is None else time.monotonic() + self._seconds

    def include(self, step: int) -> bool:
        """Whether a checkpoint of this step is due."""
        return any(step % each == 0 for each in self._every)

    def are_over(self) -> bool:
        """Whether one is due because of the time."""
        return time.monotonic() >= self._end


class Saving:
    """A background thread that does one piece of work at a time, and what became of it."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="saving")
        self._copier = _copier()
        self._work: Future[Path] | None = None
        self._failures_in_a_row = 0

    def copied(self, tensors: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
        """Copies on the CPU that the next steps do not change; for one piece of work."""
        assert self._work is None, "the copies of the last piece of work are still in use"
        groups = {
            name: {key: value.detach() for key, value in each.items()}
            for name, each in tensors.items()
        }
        if not REUSES_COPIES:
            self._copier = _copier()
        copies = self._copier.stage(groups)
        assert isinstance(copies, dict)
        return copies

    def start(self, work: Callable[[], Path]) -> None:
        """Begin; the piece of work before must have been finished."""
        assert self._work is None, "one piece of work at a time"
        self._work = self._thread.submit(work)

    @property
    def is_done(self) -> bool:
        """Whether the work has ended, one way or the other."""
        return self._work is not None and self._work.done()

    def finish(self) -> Path | None:
        """Wait for the work and return its result, or raise its error; None if there is none."""
        work, self._work = self._work, None
        return None if work is None else work.result()

    def attempt(self, action: Callable[[], Path | None], step: int, *, must: bool) -> str | None:
        """Save, or wait for a save; return a warning where that failed and may be repeated.

        Args:
            action: Returns the path of a checkpoint that is complete.
            step: Steps done.
            must: Whether there is no later attempt.

        Raises:
            TrainingError: It failed and must not, or it was the third failure in a row.
        """
        try:
            if action() is not None:
                self._failures_in_a_row = 0
        except CheckpointError as cause:
            self._failures_in_a_row += 1
            if must or self._failures_in_a_row == FAILURES_IN_A_ROW:
                raise TrainingError(f"{cause}; the run ends at step {step}") from cause
            return f"{cause}; training continues and tries again"
        return None

    def __enter__(self) -> None:
        """Inside, work may be started; at the end, all of it is over."""

    def __exit__(self, *cause: object) -> None:
        if self._work is not None:
            wait([self._work])
