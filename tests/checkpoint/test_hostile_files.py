"""Files made to run code, hang or fill the memory are refused, fast and in little memory."""

from __future__ import annotations

import io
import json
import struct
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from deepgen.checkpoint.bases import Bases
from deepgen.checkpoint.folder import load_on_meta
from deepgen.checkpoint.pickles import check_archive
from deepgen.checkpoint.unpickling import main
from deepgen.errors import CheckpointError
from tests.checkpoint.models import edit_json, edit_weights
from tests.checkpoint.test_pickles import GOOD, Canary, repacked, saved, with_pickle

DIT = "transformer/diffusion_pytorch_model.safetensors"

BIAS = "proj_out.bias"

SECONDS = 2.0
GROWTH = 64 << 20

STORAGE = b"((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuJ"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"


def stated(values: int, shape: bytes) -> bytes:
    """A state dict of one tensor of that shape over a record of so many values."""
    tensor = REBUILD + STORAGE + struct.pack("<i", values) + b"tQK\x00" + shape + shape
    rest = b"\x89ccollections\nOrderedDict\n)RtR"
    return with_pickle(b"\x80\x02}X\x0c\x00\x00\x00meta_queries" + tensor + rest + b"s.")


def nested_key() -> bytes:
    """A pair of pairs of pairs as a key, the hash of which takes 2^60 steps."""
    return with_pickle(b"\x80\x02})" + b"q\x01h\x01\x86" * 60 + b"K\x01s.")


def directory(length: int) -> bytes:
    """An archive whose directory has so many bytes, all of entries without content."""
    name = b"a/%08d"
    entry = struct.pack("<4s6H3L5H2L", b"PK\1\2", *(20,) * 2, *(0,) * 7, 10, *(0,) * 6)
    count = length // (len(entry) + 10)
    entries = b"".join(entry + name % number for number in range(count))
    first = struct.pack("<4s5H3L2H", b"PK\3\4", 20, *(0,) * 7, 10, 0) + b"a/00000000"
    end = struct.pack("<4s4H2LH", b"PK\5\6", *(0,) * 4, len(entries), len(first), 0)
    return first + entries + end


def overlapping() -> bytes:
    """Two entries for the same bytes."""
    content = saved(GOOD)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        places = [entry.header_offset for entry in archive.infolist()]
    start = content.index(b"PK\1\2")
    at = content.index(struct.pack("<L", places[-1]), start)
    return content[:at] + struct.pack("<L", places[-2]) + content[at + 4 :]


def short_record(old: zipfile.ZipFile, new: zipfile.ZipFile) -> None:
    for entry in old.infolist():
        content = old.read(entry)
        new.writestr(entry.filename, content[:4] if "/data/" in entry.filename else content)


PICKLES: dict[str, Callable[[Path], bytes]] = {
    "canary": lambda canary: saved({**GOOD, "meta_queries": Canary(canary)}),
    "canary beside the model": lambda canary: saved({"state_dict": GOOD, "x": Canary(canary)}),
    "os.system": lambda canary: with_pickle(
        b"\x80\x02cos\nsystem\nX"
        + struct.pack("<L", len(f"touch {canary}"))
        + f"touch {canary}".encode()
        + b"\x85R."
    ),
    "nested key": lambda _: nested_key(),
    "many globals": lambda _: with_pickle(b"\x80\x02" + b"ctorch\nSize\n" * 300_000 + b"."),
    "many opcodes": lambda _: with_pickle(b"\x80\x02" + b")" * (3 << 20)),
    "many names": lambda _: with_pickle(b"\x80\x02" + bytes(5 << 20)),
    "deep tuples": lambda _: with_pickle(b"\x80\x02)" + b"\x85" * 100_000 + b"."),
    "long numbers": lambda _: stated(1, b"(" + (b"\x8a\xff" + b"\x7f" * 255) * 5_000 + b"t"),
    "large directory": lambda _: directory(10 << 20),
    "overlapping records": lambda _: overlapping(),
    "short records": lambda _: repacked(short_record),
    "record of terabytes": lambda _: stated(2**31 - 1, b"J\xff\xff\xff\x7f\x85"),
    "outside its record": lambda _: stated(1, b"J\xff\xff\xff\x7f\x85"),
    "compressed zeros": lambda _: repacked(
        lambda old, new: new.writestr("a/data.pkl", bytes(32 << 20), zipfile.ZIP_DEFLATED)
    ),
}


def header(folder: Path, values: Any, length: int | None = None) -> None:
    text = json.dumps(values).encode() if length is None else values
    (folder / DIT).write_bytes(struct.pack("<Q", length or len(text)) + text)


def entry(begin: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": [(end - begin) // 4], "data_offsets": [begin, end]}


def outside_index(folder: Path) -> None:
    (folder / DIT).rename(folder / "stolen.safetensors")
    index = {"weight_map": {"proj_out.weight": "../stolen.safetensors"}}
    (folder / f"{DIT}.index.json").write_text(json.dumps(index))


def link(folder: Path) -> None:
    (folder / DIT).rename(folder.parent / "elsewhere")
    (folder / DIT).symlink_to(folder.parent / "elsewhere")


FOLDERS: dict[str, Callable[[Path], object]] = {
    "header of exabytes": lambda folder: header(folder, b"{}", 2**62),
    "header of megabytes": lambda folder: header(folder, b"{" + b" " * (8 << 20) + b"}", 8 << 20),
    "overlapping tensors": lambda folder: header(folder, {"a": entry(0, 64), "b": entry(32, 96)}),
    "tensor of terabytes": lambda folder: header(folder, {"a": entry(0, 2**42)}),
    "wrong dtype": lambda folder: edit_weights(
        folder / DIT, lambda each: each.update({BIAS: torch.ones(64, dtype=torch.int8)})
    ),
    "missing key": lambda folder: edit_weights(
        folder / DIT, lambda each: each.pop("proj_out.bias")
    ),
    "extra key": lambda folder: edit_weights(
        folder / DIT, lambda each: each.update(extra=torch.ones(2))
    ),
    "index outside": outside_index,
    "link outside": link,
    "millions of layers": lambda folder: edit_json(
        folder / "transformer/config.json", lambda each: each.update(num_layers=10**9)
    ),
}


@contextmanager
def refused(canary: Path) -> Iterator[None]:
    """One line, within the time, the memory, and without anything having run."""
    before = _memory("VmRSS", reset=True)
    start = time.process_time()
    with pytest.raises(CheckpointError) as caught:
        yield
    assert time.process_time() - start < SECONDS
    assert _memory("VmHWM") - before < GROWTH
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert not canary.exists()


def _memory(field: str, *, reset: bool = False) -> int:
    """Bytes of this process, as Linux counts them; 0 elsewhere."""
    try:
        if reset:
            # The highest value so far becomes the present one.
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(field))


@pytest.mark.parametrize("kind", PICKLES)
def test_a_hostile_pickle_is_refused(kind: str, tmp_path: Path) -> None:
    path, canary = tmp_path / "model.pt", tmp_path / "ran"
    path.write_bytes(PICKLES[kind](canary))
    with refused(canary):
        check_archive(path)


def test_values_that_are_not_finite_are_refused_fast(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, canary = tmp_path / "model.pt", tmp_path / "ran"
    path.write_bytes(saved({"meta_queries": torch.full((2, 2), torch.inf)}))
    with refused(canary):
        assert main([str(path), str(tmp_path / "out")]) == 2
        raise CheckpointError(capsys.readouterr().err.strip())


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_hostile_folder_is_refused(kind: str, folder: Path, tmp_path: Path) -> None:
    FOLDERS[kind](folder)
    with refused(tmp_path / "ran"):
        load_on_meta(folder)


def test_a_base_with_a_link_out_of_it_is_refused(folder: Path, tmp_path: Path) -> None:
    link(folder)
    with refused(tmp_path / "ran"):
        Bases([folder])
