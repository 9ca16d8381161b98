"""Where the batches of a step come from: a stream, which may have a state and call the model.

In supervised training batches are a function of the step alone (:class:`ByStep`). Reinforcement
learning will need rollouts of the model that is trained, and prompts in an order that is resumed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from torch import Tensor

from deepgen.train.checkpoints import Checkpoint
from deepgen.train.parallel.distributed import Processes

Batch = TypeVar("Batch")
BatchOut = TypeVar("BatchOut", covariant=True)
ModelIn = TypeVar("ModelIn", contravariant=True)

TENSORS = "stream"
"""The group of tensors that checkpoints keep a stream's under, as ``rank.name``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamState:
    """What a stream resumes from, on one process."""

    values: Mapping[str, Any] = field(default_factory=dict)
    """Plain values, as JSON has them."""
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    """For example a rollout that several steps learn from; of any type and device."""


@runtime_checkable
class BatchStream(Protocol[ModelIn, BatchOut]):
    """The micro-batches of every step, of this process."""

    def batches(self, model: ModelIn, step: int) -> Sequence[BatchOut]:
        """The micro-batches of a step; steps come one after another, from any step on.

        Torch's global generators are seeded by step and rank before.

        Args:
            model: As it is trained, in training mode. A sharded one is computed by all processes
                together: each has to run it equally often.
            step: Steps done.
        """

    def state(self) -> StreamState:
        """What the next step depends on beside its number and the model."""

    def load_state(self, states: Sequence[StreamState]) -> None:
        """Resume from a checkpoint.

        Args:
            states: Of every process that saved it, by rank. Their number may differ from today's.
        """


class ByStep(Generic[Batch]):
    """A stream without a state: batches are a function of the step alone.

    Args:
        function: From the steps done to the micro-batches of this process.
    """

    def __init__(self, function: Callable[[int], Sequence[Batch]]) -> None:
        self.function = function

    def batches(self, model: object, step: int) -> Sequence[Batch]:
        """See :class:`BatchStream`; the model is not used."""
        return self.function(step)

    def state(self) -> StreamState:
        """Empty."""
        return StreamState()

    def load_state(self, states: Sequence[StreamState]) -> None:
        """Nothing to resume."""


def packed(
    state: StreamState, processes: Processes, *, is_sharded: bool
) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """The state of a stream as a checkpoint keeps it; all processes must call this.

    Args:
        state: Of this process.
        processes: Those that train together.
        is_sharded: Every process writes its own tensors, so only those are returned.

    Returns:
        Of every process the plain values and the names of the tensors; and tensors.
    """
    own = {
        f"{processes.rank}.{name}": value.detach().cpu().clone()
        for name, value in state.tensors.items()
    }
    described = {"values": dict(state.values), "tensors": list(state.tensors)}
    if is_sharded:
        return processes.gather(described), own
    every = processes.gather((described, own))
    return [each for each, _ in every], {
        name: value for _, tensors in every for name, value in tensors.items()
    }


def unpacked(described: Sequence[Mapping[str, Any]], checkpoint: Checkpoint) -> list[StreamState]:
    """The states of all processes from a checkpoint.

    Args:
        described: What :func:`packed` gave first.
        checkpoint: Holds the tensors.
    """
    has_any = any(each["tensors"] for each in described)
    stored = checkpoint.tensors(TENSORS) if has_any else {}
    return [
        StreamState(
            values=each["values"],
            tensors={name: stored[f"{rank}.{name}"] for name in each["tensors"]},
        )
        for rank, each in enumerate(described)
    ]
