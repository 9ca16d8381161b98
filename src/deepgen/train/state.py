"""Seeds of a step, and a hash of the frozen weights."""

from __future__ import annotations

import hashlib
from collections.abc import Collection

import numpy as np
import torch
from torch import nn

from deepgen.train.parallel.sharding import full_tensor


def seeded(*numbers: int) -> torch.Generator:
    """A generator seeded by some numbers, and torch's global ones seeded alike, for dropout."""
    words = np.random.SeedSequence(numbers).generate_state(1, np.uint64)
    torch.manual_seed(int(words[0]))
    return torch.Generator().manual_seed(int(words[0]))


def frozen_digest(model: nn.Module, trained: Collection[str]) -> str:
    """SHA-256 of everything in a model that is not trained; the same on any device.

    Where the model is sharded among processes, all of them must call this.
    """
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if name not in trained:
            digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
            stored = full_tensor(value.detach()).cpu().contiguous()
            digest.update(stored.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
