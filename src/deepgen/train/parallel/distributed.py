"""Training on several processes that torchrun has started: who one is, and what all must agree on.

Every process computes its share of an update's micro-batches. Where each holds the whole model,
gradients are added up here, so all make the same update and stay equal to the last bit; that they
did is checked whenever a checkpoint is written. A model that is divided is FSDP2's business.
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

Fact = TypeVar("Fact")

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
    facts: dist.ProcessGroup | None = None
    """Between their CPUs, for what is no tensor; None where there is only one."""
    background: dist.ProcessGroup | None = None
    """The same for threads that work beside the training; their words must not mix with its."""
    waiting_group: dist.ProcessGroup | None = None
    """A third one, for what the first process does while the others wait, up to FIRST_TIMEOUT."""

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes, draws and prints."""
        return self.rank == 0

    def gather(self, fact: Fact) -> list[Fact]:
        """What every process has to say, in the order of their ranks."""
        if self.facts is None:
            return [fact]
        said = [fact] * self.world_size
        dist.all_gather_object(said, fact, group=self.facts)
        return said

    def by_first(self, action: Callable[[], Fact]) -> Fact:
        """Have the first process do something while all others wait, and return its result to all.

        Raises:
            DeepGenError: The action failed so; raised by all, so that none waits for another.
            ValueError: Likewise.
        """
        if self.waiting_group is None:
            return action()
        outcome: list[Fact | DeepGenError | ValueError | None] = [None]
        if self.is_first:
            try:
                outcome = [action()]
            except (DeepGenError, ValueError) as error:
                outcome = [error]
        dist.broadcast_object_list(outcome, src=0, group=self.waiting_group)
        if isinstance(outcome[0], (DeepGenError, ValueError)):
            raise outcome[0]
        return outcome[0]  # type: ignore[return-value]  # What the action returned may be None.

    def beside(self) -> Processes:
        """The same processes, as a thread that works beside the training sees them."""
        return replace(self, facts=self.background, waiting_group=self.background)

    def level(self, batches: Sequence[Fact]) -> Sequence[Fact]:
        """As many micro-batches as the process with most has; those beyond one's own are lent.

        A divided model can only be computed by all at once, so whoever has nothing left to do
        computes something, and must not count it.
        """
        counts = self.gather(len(batches))
        most = max(counts)
        if most == min(counts):
            return batches
        # The first has one: it gets the first of all.
        lent = self.by_first(lambda: batches[0])
        return [*batches, *[lent] * (most - len(batches))]

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add up the gradients of all processes, in float32 and in the order of the parameters.

        A process that computed none counts as zero; what none has computed stays without one, as
        if there were only one process.
        """
        if self.facts is None:
            return
        for bucket in _buckets(parameters):
            self._sum(bucket)

    def _sum(self, bucket: Sequence[nn.Parameter]) -> None:
        """Add up one bucket; behind the gradients it says which of them there are."""
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
                # In the layout of the weight, since updates of two layouts may round differently.
                value.grad = torch.empty_like(value).copy_(part.view(value.shape))


ALONE = Processes()
"""One process; nothing is sent."""


@contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """All processes of this run, as torchrun's environment names them; alone without it.

    Args:
        device: What they compute on; of several GPUs each must have been given its own.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        yield ALONE
        return
    on_gpu = device.type == "cuda"
    dist.init_process_group("nccl" if on_gpu else "gloo", device_id=device if on_gpu else None)
    try:
        yield Processes(
            rank=dist.get_rank(),
            world_size=world_size,
            facts=dist.new_group(backend="gloo"),
            background=dist.new_group(backend="gloo"),
            waiting_group=dist.new_group(backend="gloo", timeout=FIRST_TIMEOUT),
        )
    finally:
        dist.destroy_process_group()


def checksum(parameters: Iterable[Tensor]) -> int:
    """A number that differs when a bit does: the bit patterns as whole numbers, added up."""
    total = 0
    for place, value in enumerate(parameters, start=1):
        total += place * int(value.detach().float().view(torch.int32).sum(dtype=torch.int64))
    return total


def check_equal(parameters: Iterable[Tensor], processes: Processes, step: int) -> None:
    """See that all processes have the same weights, since only the first one's are saved.

    Args:
        parameters: What is trained, whole on every process.
        processes: Those that train together.
        step: Updates done.

    Raises:
        TrainingError: They have not.
    """
    if processes.world_size == 1:
        return
    sums = processes.gather(checksum(parameters))
    different = [rank for rank, each in enumerate(sums) if each != sums[0]]
    if different:
        raise TrainingError(
            f"at step {step} the weights of ranks {different} differ from those of rank 0; nothing "
            "was saved. Start again from the last checkpoint, on machines and software that are "
            "alike"
        )


def _buckets(parameters: Iterable[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Parameters in their order, together while they are few numbers."""
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
