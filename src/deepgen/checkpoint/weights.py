"""Loading stored tensors into modules, with all names and shapes checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from deepgen.checkpoint.files import listed
from deepgen.checkpoint.gguf.reading import GGUFTensor
from deepgen.checkpoint.headers import StoredTensor
from deepgen.errors import CheckpointError, shown

MAPPED_BYTES = 256 << 20

Stored = Mapping[str, StoredTensor]
"""Tensors on disk, by their names in the module."""


def check_tensors(
    component: str,
    expected: Mapping[str, tuple[int, ...]],
    stored: Stored,
    *,
    optional: frozenset[str] = frozenset(),
) -> None:
    """Compare a module's tensors with the stored ones, by name and shape.

    Raises:
        CheckpointError: Tensors are unknown, missing or misshapen; all three are listed.
    """
    problems = []
    unknown = [stored[key].name for key in stored.keys() - expected.keys()]
    if unknown:
        problems.append(f"{len(unknown)} unknown tensors: {listed(unknown)}")
    missing = expected.keys() - stored.keys() - optional
    if missing:
        problems.append(f"{len(missing)} missing tensors: {listed(missing)}")
    misshapen = {
        f"{stored[key].name} has {list(stored[key].shape)}, not {list(expected[key])}"
        for key in expected.keys() & stored.keys()
        if stored[key].shape != expected[key]
    }
    if misshapen:
        problems.append(f"{len(misshapen)} misshapen tensors: {listed(misshapen)}")
    if problems:
        raise CheckpointError(f"{component} has {'; '.join(problems)}")


def shapes(module: nn.Module, prefix: str = "") -> dict[str, tuple[int, ...]]:
    """Shapes of a module's state, by name."""
    return {prefix + key: tuple(value.shape) for key, value in module.state_dict().items()}


def read_tensors(
    component: str, stored: Stored, *, dtype: torch.dtype, device: torch.device
) -> Iterator[tuple[str, Tensor]]:
    """Read tensors one by one, memory-mapped where possible.

    Raises:
        CheckpointError: A file cannot be read; or, after the last tensor, that some are not finite.
    """
    infinite = []
    with ExitStack() as stack:
        opened: dict[Path, Any] = {}
        for key, tensor in stored.items():
            try:
                if isinstance(tensor, GGUFTensor):
                    value = tensor.read()
                else:
                    if tensor.file not in opened:
                        opened[tensor.file] = stack.enter_context(safe_open(tensor.file, "pt"))
                    value = opened[tensor.file].get_tensor(tensor.name)
            except (SafetensorError, OSError) as cause:
                raise CheckpointError(f"{component}/{tensor.file.name}: {cause}") from cause
            # Moved before the cast: a GPU casts faster, and 16-bit weights cross the bus as such.
            value = value.to(device).to(dtype)
            if not is_finite(value):
                infinite.append(tensor.name)
            yield key, value
    if infinite:
        raise CheckpointError(
            f"{component} has {len(infinite)} tensors with values that are not finite"
            f" in {str(dtype).removeprefix('torch.')}: {listed(infinite)}"
        )


class TensorReader:
    """Reads stored tensors one by one, in their stored dtype.

    A file stays open until ``MAPPED_BYTES`` of it were read: to open one takes milliseconds, and
    what was read of it counts as memory while it is open.
    """

    def __init__(self) -> None:
        self._opened: dict[Path, Any] = {}
        self._read: Counter[Path] = Counter()

    def __call__(self, tensor: StoredTensor) -> Tensor:
        """One tensor.

        Raises:
            CheckpointError: It cannot be read.
        """
        if isinstance(tensor, GGUFTensor):
            return tensor.read()
        path = tensor.file
        self._read[path] += tensor.bytes
        if self._read[path] > MAPPED_BYTES:
            self._opened.pop(path, None)
            self._read[path] = tensor.bytes
        try:
            if path not in self._opened:
                self._opened[path] = safe_open(path, "pt")
            value: Tensor = self._opened[path].get_tensor(tensor.name)
        except (SafetensorError, OSError) as cause:
            where = f"{path.parent.name}/{path.name}"
            raise CheckpointError(
                f"{where}: {shown(tensor.name)} cannot be read: {cause}"
            ) from cause
        return value


def fill(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Assign tensors to a module on the meta device, without a copy."""
    module.load_state_dict(tensors, assign=True)


def is_finite(tensor: Tensor) -> bool:
    """Whether all values are finite.

    Minimum and maximum show NaN and infinities too, without a temporary tensor of the same size.
    """
    if tensor.numel() == 0:
        return True
    return bool(torch.stack(torch.aminmax(tensor)).isfinite().all())
