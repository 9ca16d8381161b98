"""Modules that are on a device only while they compute."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def on_device(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Have a module of the CPU on a device in the body, and on the CPU again afterwards.

    The weights on the CPU are kept, so nothing is copied back but what was changed in place, or
    added, in the body: that would take longer than copying there.
    """
    slots: list[tuple[dict[str, Any], str, Tensor, Tensor]] = [
        (values, key, value, value.data)
        for part in module.modules()
        for values in (part._parameters, part._buffers)
        for key, value in values.items()
        if value is not None
    ]
    # Tensors made in inference mode could never be trained, and have no version.
    with torch.inference_mode(False):
        module.to(device)
    versions = [values[key]._version for values, key, _, _ in slots]
    try:
        yield
    finally:
        for (values, key, value, data), version in zip(slots, versions, strict=True):
            moved = values.get(key)
            if moved is None or moved._version != version:
                continue
            # Parameters mostly remain the same objects, with other data; buffers never do.
            if moved is value:
                value.data = data
            else:
                values[key] = value
        with torch.inference_mode(False):
            module.to("cpu")
