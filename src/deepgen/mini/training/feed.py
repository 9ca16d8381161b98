"""Samples of the mini's world as tensors, rendered on the fly and ahead of the training step.

A batch is a function of the step, whichever process renders it, so a run can be cut anywhere, and
continued with another number of workers or on another machine.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from deepgen.mini.world.drawing import draw
from deepgen.mini.world.scene import Scene

Batch = TypeVar("Batch")

AHEAD = 2
"""Batches that every worker keeps ready."""

NO_LIMIT = 2**62


class ByStepAhead(Generic[Batch]):
    """A function of the step, computed ahead by worker processes while steps are consecutive.

    Args:
        function: From the step to its batch; must be picklable where there are workers.
        workers: Processes; 0 computes in this one, when asked.
    """

    def __init__(self, function: Callable[[int], Batch], workers: int) -> None:
        self.function = function
        self.workers = workers
        self._stream: Iterator[bytes] = iter(())
        self._next: int | None = None

    def __call__(self, step: int) -> Batch:
        """The batch of a step."""
        if self.workers == 0:
            return self.function(step)
        if step != self._next:
            self._stream = iter(self._loader(step))
        self._next = step + 1
        batch: Batch = pickle.loads(next(self._stream))
        return batch

    def _loader(self, first: int) -> DataLoader[bytes]:
        """Batches of all steps from the first on, in order."""
        return DataLoader(
            _Steps(self.function),
            batch_size=None,
            sampler=range(first, NO_LIMIT),
            num_workers=self.workers,
            prefetch_factor=AHEAD,
            # Forking a process that has run torch's threads may deadlock.
            multiprocessing_context="forkserver",
            worker_init_fn=_use_one_thread,
        )


class _Steps(Dataset[bytes]):
    """A function as a data set whose items are its values, pickled.

    Torch would send each tensor as shared memory with a file descriptor: a batch of captions has
    hundreds of them, and containers often have 64 MiB of shared memory and 1024 descriptors.
    """

    def __init__(self, function: Callable[[int], object]) -> None:
        self.function = function

    def __getitem__(self, step: int) -> bytes:
        out = io.BytesIO()
        _ByValue(out, protocol=pickle.HIGHEST_PROTOCOL).dump(self.function(step))
        return out.getvalue()


class _ByValue(pickle.Pickler):
    """Pickles tensors as numpy arrays, which is faster than as torch does."""

    def reducer_override(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return NotImplemented
        # Axes as they lie in memory, since numpy would lose the layout.
        strides = value.stride()
        axes = sorted(range(value.ndim), key=lambda axis: -strides[axis])
        return _laid_out, (value.permute(axes).contiguous().numpy(), axes)


def _laid_out(array: Any, axes: Sequence[int]) -> Tensor:
    """A tensor from an array of its axes in this order."""
    return torch.from_numpy(array).permute([axes.index(axis) for axis in range(len(axes))])


def _use_one_thread(worker: int) -> None:
    torch.set_num_threads(1)


def render(scenes: Sequence[Scene]) -> UInt8[Tensor, "scenes height width 3"]:
    """Scenes of one size as RGB images of 8 bits."""
    return torch.from_numpy(np.stack([np.asarray(draw(scene)) for scene in scenes]))


def to_pixel_batch(
    images: UInt8[Tensor, "images height width 3"],
) -> Float[Tensor, "images 3 height width"]:
    """Images of 8 bits as pixels in [-1, 1], channels first."""
    return images.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
