"""What a run is recognised by, when it resumes from a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from deepgen.checkpoint.files import listed
from deepgen.config.codec import flattened
from deepgen.errors import CheckpointError
from deepgen.train.checkpoints import Checkpoint
from deepgen.train.parallel.distributed import Processes

# What a run resumes from, besides tensors.
NEEDED = (
    *("identity.compared", "identity.frozen", "identity.environment"),
    *("step", "skipped", "skipped_in_a_row", "gradient_norms", "stream"),
    *("log.sums", "log.counts", "log.totals"),
)

LIBRARIES = ("torch", "numpy", "transformers")
"""Those whose versions may round or draw random numbers differently."""

BRANCH_MAY_CHANGE = ("optimizer.", "flow.", "data.caption_drop", "steps", "ema_decay")
"""Beginnings of the names of settings that may differ where another run is continued as a new one:
neither the weights' shapes nor the stored state, the order of the samples included, depend on
them."""

BRANCH_KEEPS = ("optimizer.kind",)
"""Exceptions: another optimizer has another state."""

PRECISION, FROZEN_PRECISION = "compute.precision", "frozen_precision"
"""Names in ``compared`` of the precision of matrix products and of the frozen weights."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunIdentity:
    """What distinguishes one run from another.

    A checkpoint that differs in ``compared``, ``shapes`` or ``frozen`` is of another run, and is
    refused. Of ``settings`` only those not in ``compared`` may differ; the environment may, too,
    which is warned of.
    """

    compared: Mapping[str, Any] = field(default_factory=dict)
    """Settings, data and what else decides about the weights, as plain values by dotted names."""
    settings: Mapping[str, Any] | None = None
    """All settings, as nested plain values; checkpoints keep them as ``config.json``."""
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Shapes of the trained weights."""
    frozen: str = ""
    """Hash of the frozen weights."""
    environment: Mapping[str, Any] = field(default_factory=dict)
    """Libraries, device and number of processes, see :func:`environment_of`."""

    @classmethod
    def read(cls, checkpoint: Checkpoint) -> RunIdentity:
        """The identity in a checkpoint, without the settings that are not compared.

        Raises:
            CheckpointError: It lacks what a run resumes from; another version has written it.
        """
        values = checkpoint.values("trainer")
        missing = [
            name
            for name in NEEDED
            for group, _, inner in [name.rpartition(".")]
            if inner not in (values.get(group, {}) if group else values)
        ]
        if missing:
            raise CheckpointError(
                f"{checkpoint.path} was written by another version of deepgen and lacks "
                f"{listed(missing)}; finish its run with that version, or start over in another "
                "folder"
            )
        return cls(shapes=checkpoint.shapes("model"), **values["identity"])

    def saved(self) -> dict[str, Any]:
        """What :meth:`read` needs besides the tensors' shapes."""
        return {
            "compared": dict(self.compared),
            "frozen": self.frozen,
            "environment": dict(self.environment),
        }

    def check_same(self, other: RunIdentity, path: Path, *, is_branch: bool = False) -> None:
        """Refuse the checkpoint of another model or another run, and say how it differs.

        Args:
            other: Identity in the checkpoint.
            path: Where that is.
            is_branch: A new run starts from it, which may change what a resumed one may not.

        Raises:
            CheckpointError: It is another.
        """
        different = [
            name
            for name in {**self.shapes, **other.shapes}
            if self.shapes.get(name) != other.shapes.get(name)
        ]
        if different:
            self._check_same_rank(other, path)
            raise CheckpointError(
                f"{path} is of another model or stage: it differs in {listed(different)}"
            )
        self._check_same_precision(other, path)
        if other.frozen != self.frozen:
            raise CheckpointError(
                f"{path} was trained on other frozen weights; start from the same model, or train "
                "in another folder"
            )
        for name in sorted({*self.compared, *other.compared}):
            found, expected = other.compared.get(name), self.compared.get(name)
            if found != expected and not (is_branch and _may_change(name, found, expected)):
                raise CheckpointError(
                    f"{path} is of a run with {name} {found}, this one has {expected}; use the "
                    f"same {name}, or start over in another folder"
                )

    def _check_same_rank(self, other: RunIdentity, path: Path) -> None:
        """Where a rank explains other shapes, name it instead of the tensors."""
        found, expected = other.compared.get("lora.rank"), self.compared.get("lora.rank")
        if found is not None and expected is not None and found != expected:
            raise CheckpointError(
                f"{path} is of a run with --lora.rank {found}, this one has {expected}; use the "
                "same rank, or start over in another --output without --resume"
            )

    def _check_same_precision(self, other: RunIdentity, path: Path) -> None:
        """Before the weights, whose hash differs with the precision alone."""
        if FROZEN_PRECISION not in other.compared.keys() & self.compared.keys():
            return
        found, expected = other.compared[PRECISION], self.compared[PRECISION]
        frozen, here = other.compared[FROZEN_PRECISION], self.compared[FROZEN_PRECISION]
        # float32 can be asked for on any device; only GPUs store frozen weights in bfloat16.
        if frozen != here and found != "float32":
            raise CheckpointError(
                f"{path} was trained on frozen weights in {frozen}, which are in {here} on this "
                "device: resume on a device of the same kind, or start over in another folder"
            )
        if found != expected:
            raise CheckpointError(
                f"{path} was trained in {found}, this one computes in {expected}: use "
                f"--precision {found}"
            )

    def changed_settings(self, saved: Mapping[str, Any], *, is_branch: bool = False) -> list[str]:
        """Settings that may change and have, since a checkpoint was written.

        Args:
            saved: All settings in the checkpoint.
            is_branch: As for :meth:`check_same`.
        """
        before = flattened(saved)
        return [
            f"{name} is {value}, was {before[name]}"
            for name, value in flattened(self.settings or {}).items()
            if name in before
            and before[name] != value
            and (name not in self.compared or (is_branch and _may_change(name, value, value)))
        ]

    def changed_environment(self, other: RunIdentity) -> str | None:
        """In what the environment of a checkpoint was different, if in anything."""
        mine, saved = self.environment, other.environment
        changes = [
            f"{name} {mine.get(name)} (was {saved.get(name)})"
            for name in {**saved, **mine}
            if saved.get(name) != mine.get(name)
        ]
        return ", ".join(changes) or None


def _may_change(name: str, found: object, expected: object) -> bool:
    """Whether a setting may be another in a new run that starts from a checkpoint."""
    if name == "ema_decay" and None in (found, expected):
        # One of the two has no averaged weights.
        return False
    return name.startswith(BRANCH_MAY_CHANGE) and not name.startswith(BRANCH_KEEPS)


def environment_of(device: torch.device, processes: Processes) -> dict[str, Any]:
    """What a run computes with; where it changes, results are equal in distribution only."""
    name = device.type
    if name == "cuda":
        name = torch.cuda.get_device_name(device)
    elif name == "cpu":
        name = f"CPU with {torch.backends.cpu.get_cpu_capability()}"
    versions = {each: version(each) for each in LIBRARIES}
    return {**versions, "device": name, "world size": processes.world_size}
