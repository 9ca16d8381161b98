"""Nothing about a safetensors file is believed that the file does not show."""

from __future__ import annotations

import json
import pickle
import random
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from deepgen.checkpoint.headers import read_header
from deepgen.checkpoint.weights import read_tensors
from deepgen.errors import CheckpointError

GOOD: dict[str, Any] = {
    "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "b": {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]},
}


def write(path: Path, header: Any, data: bytes = bytes(32)) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def with_entry(name: str, **changes: Any) -> dict[str, Any]:
    return {**GOOD, name: {**GOOD[name], **changes}}


def test_names_types_and_shapes_are_those_that_were_saved(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(2, 3), "b": torch.zeros(4).bfloat16()}, path, {"format": "pt"})
    found = read_header(path)
    assert {name: (each.dtype, each.shape) for name, each in found.items()} == {
        "a": ("F32", (2, 3)),
        "b": ("BF16", (4,)),
    }
    assert sum(each.bytes for each in found.values()) == 32


@pytest.mark.parametrize(
    "header",
    [
        b"{{",
        b"\xff\xfe{}",
        b"[" * 100_000,
        b"[1, 2]",
        {"a": 7},
        {"a": {"dtype": "F32", "shape": [8]}},
        with_entry("a", dtype="I64"),
        with_entry("a", dtype=["F32"]),
        with_entry("a", shape=[2, -3]),
        with_entry("a", shape=[True, 6]),
        with_entry("a", shape=[2.0, 3]),
        with_entry("a", shape="23"),
        with_entry("a", shape=[10**30]),
        with_entry("a", shape=[10**4000] * 3500),
        with_entry("a", data_offsets=[0]),
        with_entry("a", data_offsets=[24, 0]),
        with_entry("a", shape=[2, 2]),
        with_entry("b", data_offsets=[0, 8]),
        with_entry("b", data_offsets=[28, 36]),
        with_entry("b", shape=[8], data_offsets=[24, 40]),
        with_entry("b", shape=[2], data_offsets=[24, 28]),
    ],
)
def test_a_lying_header_is_refused(tmp_path: Path, header: Any) -> None:
    with pytest.raises(CheckpointError, match=r"damaged header|is the limit"):
        read_header(write(tmp_path / "x.safetensors", header))


def test_a_type_that_no_weights_have_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(2, dtype=torch.int64)}, path)
    with pytest.raises(CheckpointError, match=r"'a' is stored as 'I64', but weights must be"):
        read_header(path)


@pytest.mark.parametrize("length", [0, 1, 10_000, 2**63, 2**64 - 1])
def test_an_impossible_header_length_is_refused(tmp_path: Path, length: int) -> None:
    path = write(tmp_path / "x.safetensors", GOOD)
    path.write_bytes(struct.pack("<Q", length) + path.read_bytes()[8:])
    with pytest.raises(CheckpointError, match="header"):
        read_header(path)


def test_a_file_cut_at_any_byte_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.safetensors", GOOD)
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(CheckpointError):
            read_header(path)


@pytest.mark.parametrize("length", [0x280, 0x380, 0x480, 0x580])
def test_a_header_of_the_length_that_pickles_begin_with_is_read(
    length: int, tmp_path: Path
) -> None:
    entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    text = json.dumps({"a": entry, "__metadata__": {"x": ""}})
    text = text.replace('"x": ""', f'"x": "{"x" * (length - len(text))}"')
    path = tmp_path / "x.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + text.encode() + bytes(4))
    assert read_header(path).keys() == {"a"}


def test_a_renamed_pickle_is_called_one(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    pickles = [pickle.dumps({"a": 1}, protocol) for protocol in range(2, 6)]
    for zipped in (True, False):
        torch.save({"a": torch.zeros(2)}, path, _use_new_zipfile_serialization=zipped)
        pickles.append(path.read_bytes())
    for content in pickles:
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="pickle"):
            read_header(path)


def test_random_damage_never_gets_past_the_checks(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({name: torch.rand(3, 4) for name in "abcd"}, path, {"format": "pt"})
    whole = path.read_bytes()
    header_end = 8 + struct.unpack("<Q", whole[:8])[0]
    rng = random.Random(0)
    refused = 0
    for _ in range(600):
        damaged = bytearray(whole)
        for _ in range(rng.choice([1, 1, 2, 8])):
            place = rng.randrange(header_end)
            match rng.randrange(4):
                case 0:
                    damaged[place] ^= 1 << rng.randrange(8)
                case 1:
                    damaged[place] = rng.choice(b'0123456789[]{}",:-e.')
                case 2:
                    del damaged[place]
                case 3:
                    damaged.insert(place, rng.choice(b"0123456789[]{}"))
        path.write_bytes(damaged)
        try:
            stored = read_header(path)
            tensors = dict(
                read_tensors("x", stored, dtype=torch.float32, device=torch.device("cpu"))
            )
        except CheckpointError:
            refused += 1
        else:
            # A name, or a shape of equally many values, is nothing that a header can be wrong in.
            assert sum(each.numel() for each in tensors.values()) == 48
    assert refused > 400
