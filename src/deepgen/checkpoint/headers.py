"""Headers of safetensors files, checked against the files themselves; no torch in here.

A safetensors file is eight bytes with the length of a JSON header, the header, and the bytes of
the tensors one after the other. Headers are untrusted: they are compared with the file's real size
before any library maps it into memory.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepgen.errors import CheckpointError

ITEM_BYTES = {"F16": 2, "BF16": 2, "F32": 4}
"""The stored types that weights may have."""

DTYPE_NAMES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32"}

# The released model's longest header has 150 kB.
MAX_HEADER_BYTES = 16 << 20

PREFIX_BYTES = 8

SHOWN = 60
"""How many characters of a refused value a message quotes."""

MAX_DIMENSIONS = 8
MAX_SIZE = 1 << 48

# torch.save writes zip archives, others bare pickles of protocols 2 to 5.
PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


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
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            prefix = file.read(PREFIX_BYTES)
            if prefix.startswith(PICKLE_STARTS):
                raise CheckpointError(f"{where} is a pickle; only safetensors files are read")
            length = struct.unpack("<Q", prefix)[0] if len(prefix) == PREFIX_BYTES else 0
            if not 2 <= length <= min(MAX_HEADER_BYTES, size - PREFIX_BYTES):
                raise CheckpointError(
                    f"{where} is truncated or not a safetensors file: its {size} bytes cannot hold "
                    f"a header of {length}"
                )
            text = file.read(length)
    except OSError as cause:
        raise CheckpointError(f"{where} cannot be read: {cause.strerror}") from cause
    entries = _parse(text, where)
    _check_layout(entries, size - PREFIX_BYTES - length, where)
    return {
        name: StoredTensor(path, name, entry["dtype"], tuple(entry["shape"]))
        for name, entry in entries.items()
    }


def _parse(text: bytes, where: str) -> dict[str, dict[str, Any]]:
    """Entries of a header, each with the three fields it must have."""
    try:
        entries = json.loads(text.decode("utf-8"), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as cause:
        raise CheckpointError(f"{where} has a damaged header: {cause}") from cause
    if not isinstance(entries, dict):
        raise CheckpointError(f"{where} has a damaged header: it is not a JSON object")
    entries.pop("__metadata__", None)
    for name, entry in entries.items():
        problem = _problem(entry)
        if problem:
            raise CheckpointError(f"{where} has a damaged header: tensor {name!r} {problem}")
    return entries


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _problem(entry: object) -> str | None:
    """What is wrong with one entry, or None."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        return "must have dtype, shape and data_offsets"
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        return f"is stored as {dtype!r}, but weights must be one of {', '.join(ITEM_BYTES)}"
    if not _are_sizes(shape):
        return f"has the shape {repr(shape)[:SHOWN]}"
    if not _are_sizes(offsets) or len(offsets) != 2:
        return f"has the offsets {repr(offsets)[:SHOWN]}"
    needed = math.prod(shape) * ITEM_BYTES[dtype]
    if offsets[1] - offsets[0] != needed:
        return f"has {offsets[1] - offsets[0]} bytes, but its shape needs {needed}"
    return None


def _are_sizes(values: object) -> bool:
    # The exact type, because True is an int. Products of very long lists or very large numbers
    # would take hours.
    return (
        isinstance(values, list)
        and len(values) <= MAX_DIMENSIONS
        and all(type(each) is int and 0 <= each < MAX_SIZE for each in values)
    )


def _check_layout(entries: dict[str, dict[str, Any]], data_bytes: int, where: str) -> None:
    """Tensors must cover the rest of the file without gap or overlap."""
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1]["data_offsets"]):
        if entry["data_offsets"][0] != end:
            raise CheckpointError(
                f"{where} has a damaged header: tensor {name!r} starts at byte "
                f"{entry['data_offsets'][0]}, but the one before it ends at {end}"
            )
        end = entry["data_offsets"][1]
    if end != data_bytes:
        verb = "is truncated" if end > data_bytes else "has bytes that belong to no tensor"
        raise CheckpointError(
            f"{where} {verb}: it has {data_bytes} bytes of tensors, its header describes {end}"
        )
