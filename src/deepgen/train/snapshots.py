"""What checkpoints of a run hold: only what is trained, and everything needed to resume."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from deepgen.train.checkpoints import Checkpoint
from deepgen.train.ema import Ema
from deepgen.train.identity import RunIdentity
from deepgen.train.optim import Optimizer
from deepgen.train.parallel.sharding import Parallelism
from deepgen.train.stream import TENSORS, BatchStream, packed, unpacked

Snapshot = tuple[dict[str, Mapping[str, Tensor]], dict[str, Mapping[str, Any]]]
"""Groups of tensors, and groups of plain values."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshots:
    """Takes and restores the state of a run."""

    trained: Mapping[str, nn.Parameter]
    optimizer: Optimizer
    ema: Ema | None
    identity: RunIdentity
    parallel: Parallelism

    def take(self, stream: BatchStream[Any, Any], loop: Mapping[str, Any]) -> Snapshot:
        """The state of the run; all processes must call this.

        Args:
            stream: Whose state is included.
            loop: State of the loop, as plain values.
        """
        described, of_stream = packed(
            stream.state(), self.parallel.processes, is_sharded=self.parallel.shards is not None
        )
        tensors: dict[str, Mapping[str, Tensor]] = {"model": self.trained}
        tensors["optimizer"] = self.optimizer.tensors()
        if self.ema is not None:
            tensors["ema"] = self.ema.weights
        if of_stream:
            tensors[TENSORS] = of_stream
        trainer = {"identity": self.identity.saved(), "stream": described, **loop}
        values: dict[str, Mapping[str, Any]] = {"trainer": copy.deepcopy(trainer)}
        if self.identity.settings is not None:
            values["config"] = self.identity.settings
        return tensors, values

    def check(self, checkpoint: Checkpoint, *, is_branch: bool = False) -> RunIdentity:
        """See that a checkpoint is of this run, and return the identity in it.

        Args:
            checkpoint: Of this run, or for a branch of another.
            is_branch: A new run starts from it.

        Raises:
            CheckpointError: It is of another model or another run.
        """
        saved = RunIdentity.read(checkpoint)
        self.identity.check_same(saved, checkpoint.path, is_branch=is_branch)
        return saved

    def restore(self, checkpoint: Checkpoint, stream: BatchStream[Any, Any]) -> dict[str, Any]:
        """Resume from a checkpoint that was checked, and return the state of the loop."""
        trainer = checkpoint.values("trainer")
        weights = checkpoint.tensors("model", self.trained)
        averages = {} if self.ema is None else checkpoint.tensors("ema", self.trained)
        self.optimizer.load_tensors(checkpoint.tensors("optimizer", self.trained))
        with torch.no_grad():
            for name, value in self.trained.items():
                value.copy_(weights[name])
                if self.ema is not None:
                    self.ema.weights[name].copy_(averages[name])
        stream.load_state(unpacked(trainer["stream"], checkpoint))
        return trainer
