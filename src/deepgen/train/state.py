"""What a run must remember beside its tensors, and how a model is told from another."""

from __future__ import annotations

import base64
import hashlib
import random
from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deepgen.train.parallel.sharding import entire


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
