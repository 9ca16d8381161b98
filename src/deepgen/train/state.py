"""What a run must remember beside its tensors, and how a model is told from another."""

from __future__ import annotations

import base64
import hashlib
import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deepgen.checkpoint.files import listed
from deepgen.errors import CheckpointError
from deepgen.train.parallel.distributed import Processes
from deepgen.train.parallel.sharding import entire

# What a run goes on from, beside tensors and random states.
NEEDED = ("identity", "frozen", "step", "skipped", "skipped_in_a_row", "gradient_norms", "log")
NEEDED_OF_LOG = ("sums", "counts", "totals")

LIBRARIES = ("torch", "numpy", "transformers")
"""Those whose versions may round or draw differently."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunMark:
    """What one run is told from another by."""

    shapes: Mapping[str, tuple[int, ...]]
    """Of what is trained."""
    frozen: str
    """Hash of what is not."""
    identity: Mapping[str, Any]
    """Everything else, as plain values."""
    inputs: Mapping[str, Any] | None
    """What stands for settings that were left open; None where a checkpoint is too old for it."""

    @classmethod
    def read(
        cls, values: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], path: Path
    ) -> RunMark:
        """That of a checkpoint.

        Args:
            values: Of the trainer that wrote it.
            shapes: Of what it trained.
            path: Where it is.

        Raises:
            CheckpointError: It lacks what a run goes on from; another version has written it.
        """
        missing = [name for name in NEEDED if name not in values]
        missing += [f"log.{name}" for name in NEEDED_OF_LOG if name not in values.get("log", {})]
        if missing:
            raise CheckpointError(
                f"{path} was written by another version of deepgen and lacks {listed(missing)}; "
                "finish its run with that version, or begin anew in another folder"
            )
        return cls(
            shapes=shapes,
            frozen=values["frozen"],
            identity=values["identity"],
            inputs=values.get("inputs"),
        )

    def check_same(self, other: RunMark, path: Path, defaults: Mapping[str, Any]) -> None:
        """Refuse the checkpoint of another model or another run, and say how it differs.

        Args:
            other: Of the checkpoint.
            path: Where it is.
            defaults: What names of the identity count as where an earlier version lacked them.

        Raises:
            CheckpointError: It is another.
        """
        different = [
            name
            for name in {**self.shapes, **other.shapes}
            if self.shapes.get(name) != other.shapes.get(name)
        ]
        if different:
            raise CheckpointError(
                f"{path} is of another model or stage: it differs in {listed(different)}"
            )
        self._check_same_precision(other, path)
        if other.frozen != self.frozen:
            raise CheckpointError(
                f"{path} was trained on other frozen weights; start from the same model, or train "
                "in another folder"
            )
        mine = dict(self.identity)
        theirs = {name: value for name, value in defaults.items() if name in mine}
        theirs |= other.identity
        if other.inputs is not None:
            theirs |= other.inputs
            # An earlier version noted fewer.
            mine |= {
                name: value for name, value in (self.inputs or {}).items() if name in other.inputs
            }
        for name in sorted({*mine, *theirs}):
            found, expected = theirs.get(name), mine.get(name)
            if found != expected:
                raise CheckpointError(
                    f"{path} is of a run with {name} {found}, this one has {expected}; give the "
                    f"same {name}, or begin anew in another folder"
                )

    def _check_same_precision(self, other: RunMark, path: Path) -> None:
        """Before the weights, which another precision alone makes others."""
        theirs, mine = other.inputs or {}, self.inputs or {}
        if not {"precision", "frozen_precision"} <= theirs.keys() & mine.keys():
            return
        found, expected = theirs["precision"], mine["precision"]
        frozen, here = theirs["frozen_precision"], mine["frozen_precision"]
        # In float32 everything is, on any device; in bfloat16 only GPUs store what is frozen.
        if frozen != here and found != "float32":
            raise CheckpointError(
                f"{path} was trained on frozen weights in {frozen}, which are in {here} on this "
                "device: go on where the run began, or begin anew in another folder"
            )
        if found != expected:
            raise CheckpointError(
                f"{path} was trained in {found}, this one computes in {expected}: give "
                f"--precision {found}"
            )


def environment(device: torch.device, processes: Processes) -> dict[str, Any]:
    """What a run computes with: where it changes, the same run has other bits."""
    name = device.type
    if name == "cuda":
        name = torch.cuda.get_device_name(device)
    elif name == "cpu":
        name = f"CPU with {torch.backends.cpu.get_cpu_capability()}"
    versions = {each: version(each) for each in LIBRARIES}
    return {**versions, "device": name, "world size": processes.world_size}


def changed_environment(saved: Mapping[str, Any] | None, now: Mapping[str, Any]) -> str | None:
    """What is to be said of a run that goes on with other things than it was saved with, if any.

    Args:
        saved: The environment in the checkpoint; None of a checkpoint that is too old for it.
        now: That of this run.
    """
    if saved is None:
        return (
            "is from an earlier version of deepgen, which did not note the model's own settings, "
            "libraries and device; they are taken to be the same"
        )
    changes = [
        f"{name} {now.get(name)} (was {saved.get(name)})"
        for name in {**saved, **now}
        if saved.get(name) != now.get(name)
    ]
    if not changes:
        return None
    return f"goes on with {', '.join(changes)}: equal in distribution, not to the bit"


def seeded(seed: int, step: int, place: int) -> torch.Generator:
    """Randomness of a micro-batch: a generator, and torch's global one, for dropout."""
    words = np.random.SeedSequence((seed, step, place)).generate_state(1, np.uint64)
    torch.manual_seed(int(words[0]))
    return torch.Generator().manual_seed(int(words[0]))


def random_states() -> dict[str, Any]:
    """States of all global generators, as plain values."""
    version, words, gauss = random.getstate()
    numpy_state: Any = np.random.get_state(legacy=False)
    return {
        "python": [version, list(words), gauss],
        "numpy": {**numpy_state, "state": _plain(numpy_state["state"])},
        "torch": _to_text(torch.get_rng_state()),
        "cuda": [_to_text(each) for each in torch.cuda.get_rng_state_all()],
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Put all global generators where :func:`random_states` found them.

    The states of GPUs are left alone where their number differs: they belong to no GPU here.
    """
    version, words, gauss = states["python"]
    random.setstate((version, tuple(words), gauss))
    np.random.set_state(states["numpy"])
    torch.set_rng_state(_from_text(states["torch"]))
    if len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([_from_text(each) for each in states["cuda"]])


def frozen_digest(model: nn.Module, trained: Collection[str]) -> str:
    """A hash of everything in a model that is not trained; the same on any device.

    Of a model that is divided among processes, all must ask for it.
    """
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if name not in trained:
            digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
            stored = entire(value.detach()).cpu().contiguous()
            digest.update(stored.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in state.items()
    }


def _to_text(state: Tensor) -> str:
    return base64.b64encode(state.numpy().tobytes()).decode("ascii")


def _from_text(text: str) -> Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
