"""GGUF files made to run out of memory or time, or to read outside of themselves, are refused."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from deepgen.checkpoint.gguf import headers
from deepgen.checkpoint.gguf.headers import find_gguf, holds_gguf, read_header
from deepgen.errors import CheckpointError
from tests.checkpoint.test_hostile_files import refused

gguf = pytest.importorskip("gguf")

F32, Q8_0 = 0, 8
UINT32, TEXT, LIST = 4, 8, 9
MANY = 2**62


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def start(tensors: int = 0, keys: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys)


def entry(key: bytes, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def tensor(
    name: bytes = b"x", shape: tuple[int, ...] = (8,), kind: int = F32, offset: int = 0
) -> bytes:
    lengths = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return text(name) + lengths + struct.pack("<IQ", kind, offset)


def whole(*tensors: bytes, data: int = 64) -> bytes:
    content = start(len(tensors)) + b"".join(tensors)
    return content + bytes(-len(content) % 32) + bytes(data)


def strings(count: int, stated: int) -> bytes:
    """A list that states so many strings and has so many, all empty."""
    head = struct.pack("<IQ", TEXT, stated)
    return start(keys=1) + entry(b"tokens", LIST, head + bytes(8 * count))


HOSTILE: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "magic only": lambda: b"GGUF",
    "other magic": lambda: b"GGML" + bytes(64),
    "version 1": lambda: start(version=1),
    "big-endian": lambda: start(version=3 << 24),
    "tensors without end": lambda: start(tensors=MANY),
    "keys without end": lambda: start(keys=MANY),
    "key of exabytes": lambda: start(keys=1) + struct.pack("<Q", MANY),
    "text of exabytes": lambda: start(keys=1) + entry(b"a", TEXT, struct.pack("<Q", MANY)),
    "list of exabytes": lambda: start(keys=1) + entry(b"a", LIST, struct.pack("<IQ", UINT32, MANY)),
    "strings without end": lambda: strings(8, MANY),
    "millions of strings": lambda: strings(3 << 20, 3 << 20),
    "list of lists": lambda: start(keys=1) + entry(b"a", LIST, struct.pack("<IQ", LIST, 9)),
    "unknown type of value": lambda: start(keys=1) + entry(b"a", 99, b""),
    "key twice": lambda: start(keys=2) + entry(b"a", UINT32, bytes(4)) * 2,
    "alignment of 0": lambda: start(keys=1) + entry(b"general.alignment", UINT32, bytes(4)),
    "alignment of 3": lambda: start(keys=1) + entry(b"general.alignment", UINT32, b"\3\0\0\0"),
    "alignment that is text": lambda: start(keys=1) + entry(b"general.alignment", TEXT, text(b"")),
    "name that is not text": lambda: whole(tensor(b"\xff")),
    "long name": lambda: whole(tensor(b"x" * 1000)),
    "tensor twice": lambda: whole(tensor(), tensor()),
    "tensor of terabytes": lambda: whole(tensor(shape=(2**20, 2**20, 2**20))),
    "more bytes than there are": lambda: whole(tensor(shape=(2**30,))),
    "no values": lambda: whole(tensor(shape=(0,))),
    "no dimensions": lambda: whole(tensor(shape=())),
    "many dimensions": lambda: whole(tensor(shape=(1,) * 100)),
    "rows of half blocks": lambda: whole(tensor(shape=(48,), kind=Q8_0)),
    "unknown type": lambda: whole(tensor(kind=1000)),
    "type that is not read": lambda: whole(tensor(kind=27)),
    "outside": lambda: whole(tensor(offset=2**40)),
    "odd place": lambda: whole(tensor(offset=4)),
    "overlapping": lambda: whole(tensor(b"a", (16,)), tensor(b"b", (8,), offset=32)),
    "cut off": lambda: whole(tensor())[:-48],
    "cut off in its header": lambda: whole(tensor())[:40],
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(HOSTILE[kind]())
    with refused(tmp_path / "ran"):
        read_header(path)


def test_a_header_is_read_as_the_package_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, "sd3")
    writer.add_array("numbers", [1, 2, 3])
    writer.add_array("words", ["one", "two"])
    writer.add_string("long", "x" * 5000)
    writer.add_bool("yes", True)
    writer.add_custom_alignment(64)
    writer.add_tensor("a", np.ones((3, 5), np.float32))
    blocks = gguf.quants.quantize(np.ones((2, 64), np.float32), gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("b", blocks, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = read_header(path)
    assert found.texts == {"general.architecture": "sd3"}
    for each in gguf.GGUFReader(path).tensors:
        own = found.tensors[each.name]
        assert own.offset == each.data_offset
        assert own.bytes == each.n_bytes
        assert own.shape == tuple(each.shape.tolist()[::-1])
        assert own.dtype == each.tensor_type.name


def test_a_file_that_shrinks_while_its_header_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(whole(tensor()))
    with path.open("rb") as file:
        reader = headers._Reader(path, file, headers._block_sizes())
        os.truncate(path, 40)
        with pytest.raises(CheckpointError, match=r"model\.gguf is truncated"):
            reader.header()


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.gguf")
    with pytest.raises(CheckpointError, match="pipe"):
        read_header(tmp_path / "model.gguf")


def test_files_are_found_by_their_name_or_their_beginning(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"GGUF")
    (tmp_path / "a.GGUF").write_bytes(b"")
    (tmp_path / "b.txt").write_bytes(b"text")
    assert holds_gguf(tmp_path / "weights")
    assert find_gguf(tmp_path) == [tmp_path / "a.GGUF"]
    assert not holds_gguf(tmp_path / "b.txt")
    with pytest.raises(CheckpointError, match=r"b\.txt is no GGUF file"):
        find_gguf(tmp_path / "b.txt")
