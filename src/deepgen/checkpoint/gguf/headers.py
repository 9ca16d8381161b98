"""Headers of GGUF files: names, types, shapes and places of tensors; no torch in here.

The format is that of https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3.
Headers are untrusted: every count is bounded before anything is read by it, values that nobody
needs (a vocabulary) are passed over, and tensors must lie within the file, apart from each other.
The ``gguf`` package would read all values, however many a file states.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from io import BufferedReader
from itertools import pairwise
from pathlib import Path
from typing import Any

from deepgen.errors import CheckpointError, shown
from deepgen.extras import install_line
from deepgen.reading import open_regular

MAGIC = b"GGUF"
SUFFIX = ".gguf"
VERSIONS = (2, 3)

READ_TYPES = (
    "F32",
    "F16",
    "BF16",
    "Q8_0",
    "Q6_K",
    "Q5_K",
    "Q4_K",
    "Q3_K",
    "Q2_K",
    "Q5_1",
    "Q5_0",
    "Q4_1",
    "Q4_0",
)
"""Types of tensors that are read, by their names in ggml."""

MAX_HEADER_BYTES = 16 << 20
"""Of all before the tensors; that of a Qwen2.5-VL with its vocabulary has 6 MB."""
MAX_KEYS = 4096
MAX_TENSORS = 16384
"""The released DiT has 909 tensors, its VLM 824."""
MAX_NAME_BYTES = 256
"""Of a name or a key; ggml's own limit on names is 64."""
MAX_TEXT_BYTES = 256
"""Of a value that is kept, such as the architecture."""
MAX_DIMENSIONS = 4
MAX_VALUES = 1 << 40
MAX_ALIGNMENT = 1 << 16

SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "B",
    10: "Q",
    11: "q",
    12: "d",
}
"""Types of values by number, as :mod:`struct` spells them."""
TEXT, ARRAY = 8, 9

ALIGNMENT_KEY = "general.alignment"
DEFAULT_ALIGNMENT = 32


@dataclass(frozen=True, slots=True)
class Blocks:
    """A tensor in a GGUF file, in blocks of values that share their scales."""

    file: Path
    name: str
    dtype: str
    """As ggml spells it."""
    shape: tuple[int, ...]
    """As torch orders it: ggml's, reversed."""
    offset: int
    """Of its first byte in the file."""
    block_values: int
    block_bytes: int

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Bytes on disk."""
        return self.size // self.block_values * self.block_bytes


@dataclass(frozen=True, slots=True)
class Header:
    """What a GGUF file says of itself."""

    texts: dict[str, str]
    """Short texts by key, such as ``general.architecture``."""
    tensors: dict[str, Blocks]
    """By name."""


def require_gguf() -> Any:
    """The ``gguf`` package.

    Raises:
        CheckpointError: It is not installed.
    """
    try:
        import gguf
    except ImportError:
        raise CheckpointError(f"GGUF files need the package gguf: {install_line('gguf')}") from None
    return gguf


def find_gguf(path: Path) -> list[Path]:
    """The GGUF files that a path names: itself, or all in this folder.

    Raises:
        CheckpointError: There is none.
    """
    found = _gguf_files(path)
    if not found:
        raise CheckpointError(f"{path} is no GGUF file, nor a folder with any")
    return found


def holds_gguf(path: Path) -> bool:
    """Whether a path is a GGUF file, by its name or its beginning, or a folder of them."""
    return bool(_gguf_files(path))


def _gguf_files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(each for each in path.iterdir() if each.suffix.lower() == SUFFIX)
    if path.suffix.lower() == SUFFIX and path.is_file():
        return [path]
    try:
        with open_regular(path) as file:
            return [path] if file.read(len(MAGIC)) == MAGIC else []
    except OSError:
        return []


def read_header(path: Path) -> Header:
    """All tensors of a file by name, and its short texts.

    Raises:
        CheckpointError: It is no GGUF file, is damaged or truncated, states more than any model
            has, or has tensors of types that are not read.
    """
    sizes = _block_sizes()
    try:
        with open_regular(path) as file:
            return _Reader(path, file, sizes).header()
    except OSError as cause:
        raise CheckpointError(f"{path.name} cannot be read: {cause.strerror or cause}") from cause


def _block_sizes() -> dict[int, tuple[str, int, int]]:
    """Name, values and bytes of a block by the number of its type."""
    gguf = require_gguf()
    return {
        int(kind): (kind.name, *map(int, gguf.GGML_QUANT_SIZES[kind]))
        for kind in gguf.GGMLQuantizationType
    }


class _Reader:
    """Reads a header from its beginning; every number in it may be a lie."""

    def __init__(
        self, path: Path, file: BufferedReader, sizes: dict[int, tuple[str, int, int]]
    ) -> None:
        self.path, self.file, self.sizes = path, file, sizes
        file.seek(0, 2)
        self.end = file.tell()
        file.seek(0)
        self.limit = min(self.end, MAX_HEADER_BYTES)
        self.place = 0

    def header(self) -> Header:
        if self._take(4) != MAGIC:
            raise self._fault("is not a GGUF file")
        version = self._number("I")
        if version not in VERSIONS:
            kind = "big-endian" if version and version & 0xFFFF == 0 else f"of version {version}"
            raise self._fault(f"is {kind}; little-endian GGUF of version 2 or 3 is read")
        count = self._count("tensors", MAX_TENSORS)
        keys = self._count("keys", MAX_KEYS)
        alignment = DEFAULT_ALIGNMENT
        texts: dict[str, str] = {}
        seen = set()
        for _ in range(keys):
            key = self._text("a key", MAX_NAME_BYTES)
            if key in seen:
                raise self._fault(f"has the key {shown(key)} twice")
            seen.add(key)
            value_type = self._number("I")
            if key == ALIGNMENT_KEY:
                alignment = self._alignment(value_type)
            elif value_type == TEXT:
                self._keep(texts, key)
            else:
                self._skip_value(key, value_type)
        tensors: dict[str, Blocks] = {}
        for _ in range(count):
            tensor = self._tensor(alignment)
            if tensor.name in tensors:
                raise self._fault(f"has the tensor {shown(tensor.name)} twice")
            tensors[tensor.name] = tensor
        return Header(texts, self._placed(tensors, alignment))

    def _placed(self, tensors: dict[str, Blocks], alignment: int) -> dict[str, Blocks]:
        """Tensors with their places in the file, from those after its header."""
        start = -(-self.place // alignment) * alignment
        ordered = sorted(tensors.values(), key=lambda each: each.offset)
        for one, next_one in pairwise(ordered):
            if one.offset + one.bytes > next_one.offset:
                raise self._fault(
                    f"has tensors that overlap: {shown(one.name)} and {shown(next_one.name)}"
                )
        last = max((start + each.offset + each.bytes for each in ordered), default=start)
        if last > self.end:
            raise self._fault(f"is truncated: it has {self.end:,} bytes of {last:,}")
        return {
            name: Blocks(
                each.file,
                name,
                each.dtype,
                each.shape,
                start + each.offset,
                each.block_values,
                each.block_bytes,
            )
            for name, each in tensors.items()
        }

    def _tensor(self, alignment: int) -> Blocks:
        name = self._text("a tensor's name", MAX_NAME_BYTES)
        dimensions = self._number("I")
        if not 1 <= dimensions <= MAX_DIMENSIONS:
            raise self._fault(f"has {shown(name)} of {dimensions} dimensions, from 1 to 4 are read")
        lengths = struct.unpack(f"<{dimensions}Q", self._take(8 * dimensions))
        kind, offset = self._number("I"), self._number("Q")
        if 0 in lengths or math.prod(lengths) > MAX_VALUES:
            raise self._fault(f"has {shown(name)} of the shape {list(lengths)}")
        dtype, values, size = self.sizes.get(kind, (f"type {kind}", 1, 1))
        if dtype not in READ_TYPES:
            raise self._fault(
                f"has {shown(name)} stored as {dtype}; read are {', '.join(READ_TYPES)}"
            )
        if lengths[0] % values:
            raise self._fault(
                f"has {shown(name)} in rows of {lengths[0]}, but blocks of {dtype} have {values}"
            )
        if offset % alignment or offset > self.end:
            raise self._fault(f"has {shown(name)} at {offset:,}, which no tensor can be at")
        return Blocks(self.path, name, dtype, tuple(lengths[::-1]), offset, values, size)

    def _alignment(self, kind: int) -> int:
        found = self._number(SCALARS[kind]) if kind in (4, 10) else 0
        if not 1 <= found <= MAX_ALIGNMENT or found & (found - 1):
            raise self._fault(f"has the alignment {found}, expected a power of two")
        return found

    def _keep(self, texts: dict[str, str], key: str) -> None:
        """Keep the text that comes next, if it is short."""
        length = self._number("Q")
        if length > MAX_TEXT_BYTES:
            self._skip(length)
            return
        texts[key] = self._take(length).decode("utf-8", "replace")

    def _skip_value(self, key: str, kind: int) -> None:
        if kind in SCALARS:
            self._skip(struct.calcsize(SCALARS[kind]))
            return
        if kind != ARRAY:
            raise self._fault(f"has {shown(key)} of the unknown type {kind}")
        inner, length = self._number("I"), self._number("Q")
        if inner in SCALARS:
            self._skip(length * struct.calcsize(SCALARS[inner]))
        elif inner == TEXT:
            # Each takes eight bytes at least, so the limit of the header is one of their number.
            if 8 * length > self.limit - self.place:
                raise self._beyond(8 * length)
            for _ in range(length):
                self._skip(self._number("Q"))
        else:
            raise self._fault(f"has a list of lists, {shown(key)}, which is not read")

    def _text(self, what: str, limit: int) -> str:
        length = self._number("Q")
        if length > limit:
            raise self._fault(f"has {what} of {length:,} bytes, {limit} is the limit")
        try:
            return self._take(length).decode("utf-8")
        except UnicodeDecodeError:
            raise self._fault(f"has {what} that is not UTF-8 text") from None

    def _count(self, what: str, limit: int) -> int:
        found = self._number("Q")
        if found > limit:
            raise self._fault(f"states {found:,} {what}, {limit:,} is the limit")
        return found

    def _number(self, code: str) -> int:
        found: int = struct.unpack(f"<{code}", self._take(struct.calcsize(code)))[0]
        return found

    def _take(self, length: int) -> bytes:
        if length > self.limit - self.place:
            raise self._beyond(length)
        self.place += length
        taken = self.file.read(length)
        if len(taken) < length:
            # It has become shorter since its length was read.
            raise self._fault("is truncated")
        return taken

    def _skip(self, length: int) -> None:
        if length > self.limit - self.place:
            raise self._beyond(length)
        self.place += length
        # Seeking within the buffer costs a call of the system.
        if length < 1024:
            self.file.read(length)
        else:
            self.file.seek(length, 1)

    def _beyond(self, length: int) -> CheckpointError:
        if self.place + length > self.end:
            return self._fault("is truncated, or has a damaged header")
        return self._fault(f"has a header of more than {MAX_HEADER_BYTES:,} bytes, the limit")

    def _fault(self, what: str) -> CheckpointError:
        return CheckpointError(f"{self.path.name} {what}")
