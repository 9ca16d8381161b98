"""Headers of safetensors files: names, types and shapes of tensors; no torch in here.

Headers are untrusted. The safetensors library compares them with the file's real size, and refuses
tensors that overlap, leave gaps or have another size than their shape and type say.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from safetensors import SafetensorError, safe_open

from deepgen.errors import CheckpointError
from deepgen.reading import open_regular

ITEM_BYTES = {"F16": 2, "BF16": 2, "F32": 4}
"""The stored types that weights may have."""

MAX_HEADER_BYTES = 4 << 20
"""The released DiT's has 100 kB; a name without values takes ten times its bytes in memory."""

DTYPE_NAMES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32"}

# torch.save writes zip archives, others bare pickles of protocols 2 to 5.
PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


@runtime_checkable
class HasShape(Protocol):
    """A tensor of which the shape is known."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of its dimensions."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor on disk."""

    file: Path
    name: str
    dtype: str
    """As safetensors spells it."""
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Bytes on disk."""
        return self.size * ITEM_BYTES[self.dtype]


def read_header(path: Path) -> dict[str, StoredTensor]:
    """All tensors of a file by name.

    Raises:
        CheckpointError: It is not a safetensors file, is truncated, or differs from its header.
    """
    where = f"{path.parent.name}/{path.name}"
    found = {}
    try:
        with open_regular(path) as file:
            start, text = file.read(8), file.read(1)
        # A header of 640 bytes begins as a pickle does.
        if start.startswith(PICKLE_STARTS) and text != b"{":
            raise CheckpointError(f"{where} is a pickle; only safetensors files are read")
        length = int.from_bytes(start, "little")
        if length > MAX_HEADER_BYTES:
            raise CheckpointError(
                f"{where} has a header of {length:,} bytes, {MAX_HEADER_BYTES:,} is the limit"
            )
        with safe_open(path, "numpy") as opened:
            for name in opened.keys():  # noqa: SIM118
                entry = opened.get_slice(name)
                dtype, shape = entry.get_dtype(), tuple(entry.get_shape())
                found[name] = StoredTensor(path, name, dtype, shape)
    except OSError as cause:
        raise CheckpointError(f"{where} cannot be read: {cause.strerror or cause}") from cause
    except SafetensorError as cause:
        raise CheckpointError(
            f"{where} is truncated, has a damaged header, or is not a safetensors file: {cause}"
        ) from cause
    for name, tensor in found.items():
        if tensor.dtype not in ITEM_BYTES:
            raise CheckpointError(
                f"{where}: tensor {name!r} is stored as {tensor.dtype!r}, but weights must be one "
                f"of {', '.join(ITEM_BYTES)}"
            )
    return found
