"""Saving beside the training: a copy is taken, and written while updates go on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions


class SaveTimes:
    """When a run saves: at multiples of numbers of updates, and when it has not for too long.

    Args:
        every: Numbers of updates; None is none.
        seconds: Time after which a save is due; None is never.
    """

    def __init__(self, *every: int | None, seconds: float | None = None) -> None:
        self._every = [each for each in every if each is not None]
        self._seconds = seconds
        self.restart()

    def restart(self) -> None:
        """It is being saved now."""
        self._end = math.inf if self._seconds is None else time.monotonic() + self._seconds

    def include(self, step: int) -> bool:
        """Whether there is a checkpoint of this update."""
        return any(step % each == 0 for each in self._every)

    def are_over(self) -> bool:
        """Whether there has not been one for too long."""
        return time.monotonic() >= self._end


class Saving:
    """At most one piece of work at a time, and what has become of it."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="saving")
        on_gpu = torch.cuda.is_available()
        # Its copies are used again at every save, as nothing of the last one is needed any more.
        self._copier = DefaultStager(
            StagingOptions(
                use_pinned_memory=on_gpu,
                use_shared_memory=False,
                use_async_staging=False,
                use_non_blocking_copy=on_gpu,
            )
        )
        self._work: Future[Path] | None = None

    def copied(self, tensors: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
        """Copies on the CPU that the next updates do not change; for one piece of work."""
        assert self._work is None, "the copies of the last piece of work are still in use"
        groups = {
            name: {key: value.detach() for key, value in each.items()}
            for name, each in tensors.items()
        }
        copies = self._copier.stage(groups)
        assert isinstance(copies, dict)
        return copies

    def start(self, work: Callable[[], Path]) -> None:
        """Begin; the piece of work before must have been finished."""
        assert self._work is None, "one piece of work at a time"
        self._work = self._thread.submit(work)

    @property
    def is_done(self) -> bool:
        """Whether there is an outcome to be asked for."""
        return self._work is not None and self._work.done()

    def finish(self) -> Path | None:
        """Wait for the work, and return or raise what it has come to; None if there is none."""
        work, self._work = self._work, None
        return None if work is None else work.result()

    def __enter__(self) -> None:
        """Work may be begun inside; behind it none goes on, whatever has become of it."""

    def __exit__(self, *cause: object) -> None:
        if self._work is not None:
            wait([self._work])
