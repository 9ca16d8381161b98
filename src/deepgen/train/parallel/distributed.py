"""Training on several processes that torchrun has started.

Every process computes its part of a step's micro-batches. Where each holds the whole model,
gradients are summed here, so all make the same step and stay equal to the bit, which is checked
whenever a checkpoint is written. A sharded model is left to FSDP2, see ``sharding``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from deepgen.errors import DeepGenError, TrainingError

Value = TypeVar("Value")

FIRST_TIMEOUT = timedelta(days=7)
"""How long processes wait for what only the first one does: sample images, validation, checkpoints,
export. Where it dies, the others notice at once that its connection is closed."""

BUCKET_NUMBERS = 2**24
"""Gradient values that are sent at once: 64 MiB, beyond which links do not get faster."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Processes:
    """This process among those that train one model together; by default it is alone."""

    rank: int = 0
    world_size: int = 1
    object_group: dist.ProcessGroup | None = None
    """Process group on CPUs (gloo), for objects instead of tensors; None for a single process."""
    background_group: dist.ProcessGroup | None = None
    """A second one for background threads, whose messages must not mix with those of the loop."""
    waiting_group: dist.ProcessGroup | None = None
    """A third one, for what the first process does while the others wait, up to FIRST_TIMEOUT."""

    @property
    def is_rank_zero(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def gather(self, value: Value) -> list[Value]:
        """The value of every process, by rank; a collective call."""
        if self.object_group is None:
            return [value]
        values = [value] * self.world_size
        dist.all_gather_object(values, value, group=self.object_group)
        return values

    def on_rank_zero(self, action: Callable[[], Value]) -> Value:
        """Run an action on the first process while the others wait; its result is that of all.

        Raises:
            DeepGenError: The action raised it; then all processes do, and none waits for another.
            ValueError: Likewise.
        """
        if self.waiting_group is None:
            return action()
        outcome: list[Value | DeepGenError | ValueError | None] = [None]
        if self.is_rank_zero:
            try:
                outcome = [action()]
            except (DeepGenError, ValueError) as error:
                outcome = [error]
        dist.broadcast_object_list(outcome, src=0, group=self.waiting_group)
        if isinstance(outcome[0], (DeepGenError, ValueError)):
            raise outcome[0]
        return outcome[0]  # type: ignore[return-value]  # What the action returned may be None.

    def in_background(self) -> Processes:
        """The same processes, for a background thread."""
        group = self.background_group
        return replace(self, object_group=group, waiting_group=group)

    def pad_with_dummies(self, batches: Sequence[Value]) -> Sequence[Value]:
        """As many micro-batches as the process with most has; the rest are dummies.

        A sharded model can only be computed by all processes together, so one that has fewer
        computes dummy micro-batches, which must not count.
        """
        counts = self.gather(len(batches))
        most = max(counts)
        if most == min(counts):
            return batches
        # The first process always has one.
        dummy = self.on_rank_zero(lambda: batches[0])
        return [*batches, *[dummy] * (most - len(batches))]

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum the gradients of all processes, in float32 and in the order of the parameters.

        A process without a gradient counts as zero; where no process has one, there is none
        afterwards, as with a single process.
        """
        if self.object_group is None:
            return
        for bucket in _buckets(parameters):
            self._sum(bucket)

    def _sum(self, bucket: Sequence[nn.Parameter]) -> None:
        """Sum one bucket, which ends with a flag per gradient: whether there is one."""
        device = bucket[0].device
        gradients = [
            torch.zeros(value.numel(), device=device)
            if value.grad is None
            else value.grad.detach().float().flatten()
            for value in bucket
        ]
        present = torch.tensor([float(value.grad is not None) for value in bucket], device=device)
        sums = torch.cat([*gradients, present])
        dist.all_reduce(sums)
        computed = sums[-len(bucket) :].tolist()
        parts = sums[: -len(bucket)].split([value.numel() for value in bucket])
        for value, part, count in zip(bucket, parts, computed, strict=True):
            if count:
                # In the layout of the weight, since optimizers may round differently in another.
                value.grad = torch.empty_like(value).copy_(part.view(value.shape))


SINGLE_PROCESS = Processes()
"""A single process, without communication."""


@contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """All processes of this run, by torchrun's environment variables; one without them.

    Args:
        device: This process's; of several GPUs each process has its own.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        yield SINGLE_PROCESS
        return
    on_gpu = device.type == "cuda"
    dist.init_process_group("nccl" if on_gpu else "gloo", device_id=device if on_gpu else None)
    try:
        yield Processes(
            rank=dist.get_rank(),
            world_size=world_size,
            object_group=dist.new_group(backend="gloo"),
            background_group=dist.new_group(backend="gloo"),
            waiting_group=dist.new_group(backend="gloo", timeout=FIRST_TIMEOUT),
        )
    finally:
        dist.destroy_process_group()


def checksum(parameters: Iterable[Tensor]) -> int:
    """A number that differs when a bit does: the sum of all bit patterns as integers."""
    total = 0
    for place, value in enumerate(parameters, start=1):
        total += place * int(value.detach().float().view(torch.int32).sum(dtype=torch.int64))
    return total


def check_equal(parameters: Iterable[Tensor], processes: Processes, step: int) -> None:
    """Check that all processes have the same weights, since only the first one's are saved.

    Args:
        parameters: What is trained, whole on every process.
        processes: Those that train together.
        step: Steps done.

    Raises:
        TrainingError: They differ.
    """
    if processes.world_size == 1:
        return
    sums = processes.gather(checksum(parameters))
    different = [rank for rank, each in enumerate(sums) if each != sums[0]]
    if different:
        raise TrainingError(
            f"at step {step} the weights of ranks {different} differ from those of rank 0; nothing "
            "was saved. Resume from the last checkpoint, on equal machines and software"
        )


def _buckets(parameters: Iterable[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Parameters in their order, as many together as have BUCKET_NUMBERS values."""
    bucket: list[nn.Parameter] = []
    count = 0
    for value in parameters:
        if bucket and count + value.numel() > BUCKET_NUMBERS:
            yield bucket
            bucket, count = [], 0
        bucket.append(value)
        count += value.numel()
    if bucket:
        yield bucket
