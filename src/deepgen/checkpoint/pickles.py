"""Training checkpoints of ``torch.save``, the only pickles that are ever opened.

Their structure is followed without running them (:mod:`deepgen.checkpoint.outline`); what is whole
is then read in a process of its own, by torch's loader that builds nothing but tensors
(``weights_only``), with limits on memory and time. What comes back is safetensors, one folder of
them per component.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

from deepgen.checkpoint.files import listed
from deepgen.checkpoint.native import by_component
from deepgen.checkpoint.outline import DTYPES, PickledTensor, Storage, read_outline
from deepgen.errors import CheckpointError, reason_of, shown
from deepgen.reading import open_regular

CONTAINERS = ("state_dict", "module")
"""Keys that the tensors may be under, as of trainers that save more than the model."""

MAX_PICKLE_BYTES = 4 << 20
"""Of names and shapes; those of the released model take 300 kB."""

MAX_DIRECTORY_BYTES = 2 << 20
"""Of the archive's list of entries, with some 90 bytes for each tensor."""

SPARE_BYTES = 256 << 20

LEAST_SECONDS = 60
LEAST_BYTES_PER_SECOND = 5 << 20
"""The time that the reader gets: a slow disk reads more than this."""

CONVERTED_SHARD_BYTES = 2 << 30
"""Half of what is usual: while a file is written, the checkpoint is mapped too."""


@dataclass(frozen=True, slots=True)
class NativeOutline:
    """Names and shapes of a native checkpoint."""

    parts: Mapping[str, Mapping[str, PickledTensor]]
    """Tensors by component and name, without wrappers."""
    left_out: Mapping[str, int]
    """Entries beside the model's with tensors of their own, such as an optimizer's; how many."""


def unpack(source: Path, folder: Path) -> None:
    """Store the tensors of a native checkpoint as safetensors, ``folder/COMPONENT/*``.

    Args:
        source: A file that :func:`check_archive` accepts.
        folder: It is created.

    Raises:
        CheckpointError: Values are not finite, or it cannot be read or written.
    """
    # -P: a folder of downloads may hold a torch.py, which -m alone would import.
    reader = ("-P", "-m", "deepgen.checkpoint.unpickling")
    command = [sys.executable, *reader, str(source), str(folder)]
    seconds = time_limit(source)
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            env=_environment(),
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise CheckpointError(f"{source.name} is not read within {seconds} seconds") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"its reader ended with {done.returncode}"]
        raise CheckpointError(f"{source.name} cannot be read: {lines[-1]}")


def time_limit(source: Path) -> int:
    """Seconds in which a file must be read."""
    return LEAST_SECONDS + source.stat().st_size // LEAST_BYTES_PER_SECOND


def check_no_shards(folder: Path) -> None:
    """Say how a folder of DeepSpeed's shards becomes one file, where this is one.

    Raises:
        CheckpointError: It is.
    """
    if any(folder.glob("*_model_states.pt")):
        # One step's shards; the script lies beside the steps.
        root = folder.resolve().parent
    elif any(folder.glob("*/*_model_states.pt")):
        root = folder
    else:
        return
    raise CheckpointError(
        f"{folder} is a checkpoint of DeepSpeed in shards, which its own script puts together: "
        f"python {root}/zero_to_fp32.py {root} OUT --max_shard_size 1000GB; convert "
        "OUT/pytorch_model.bin (in releases without that option OUT itself is the file)"
    )


def check_archive(source: Path) -> NativeOutline:
    """Names and shapes of a native checkpoint, from its directory and opcodes alone.

    Raises:
        CheckpointError: It is no state dict of a DeepGen model, is damaged, or names code.
    """
    try:
        with open_regular(source) as file:
            size = source.stat().st_size
            start = _check_end(file, size)
            with zipfile.ZipFile(file) as archive:
                records, pickle = _records(archive, start)
        loaded, storages = read_outline(pickle)
        _check_storages(storages, records)
        tensors, left_out = _tensors(loaded)
        return NativeOutline(by_component(tensors), left_out)
    except CheckpointError as error:
        raise CheckpointError(f"{source.name} cannot be converted: {error}") from error
    except OSError as cause:
        raise CheckpointError(f"{source.name} cannot be read: {reason_of(cause)}") from cause
    except Exception as cause:
        # zipfile raises whatever a damaged directory makes its parts do.
        raise CheckpointError(
            f"{source.name} is truncated or damaged: {shown(reason_of(cause))}"
        ) from cause


def _check_end(file: BufferedReader, size: int) -> int:
    """Where the archive's directory starts, which has to be right before the file's end.

    zipfile would read a directory of any size, and search for it.
    """
    file.seek(max(0, size - 98))
    tail = file.read(98).rjust(98, b"\0")
    end, locator, large = tail[-22:], tail[-42:-22], tail[:56]
    if not end.startswith(b"PK\5\6") or end[-2:] != b"\0\0":
        raise CheckpointError(
            "it is truncated, or not an archive of torch.save; a file of torch before 1.6 has to "
            "be loaded and saved again with a newer one"
        )
    length, start = struct.unpack("<LL", end[12:20])
    stop = size - 22
    if locator.startswith(b"PK\6\7"):
        (place,) = struct.unpack("<Q", locator[8:16])
        length, start = struct.unpack("<QQ", large[40:])
        stop = size - 98
        if place != stop or not large.startswith(b"PK\6\6"):
            raise CheckpointError("its directory is damaged")
    if start + length != stop:
        raise CheckpointError("its directory is damaged, or it is truncated")
    if length > MAX_DIRECTORY_BYTES:
        raise CheckpointError(
            f"its directory has {length:,} bytes, {MAX_DIRECTORY_BYTES:,} is the limit"
        )
    return int(start)


def _records(archive: zipfile.ZipFile, end: int) -> tuple[dict[str, int], bytes]:
    """Bytes of each record by its name, and the pickle."""
    entries = sorted(archive.infolist(), key=lambda each: each.header_offset)
    packed = [each.filename for each in entries if each.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise CheckpointError(f"it is compressed, which torch.save never does: {listed(packed)}")
    if any(each.flag_bits & 1 for each in entries):
        raise CheckpointError("it is encrypted")
    # torch looks names up without regard to case.
    names = Counter(each.filename.casefold() for each in entries)
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise CheckpointError(f"it has entries of one name: {listed(twice)}")
    # Stored twice, a small file would look like a large one.
    starts = [each.header_offset for each in entries[1:]] + [end]
    for entry, following in zip(entries, starts, strict=True):
        if entry.header_offset + 30 + entry.file_size > following:
            raise CheckpointError(f"it has entries that overlap: {shown(entry.filename)}")
    pickles = [each for each in entries if each.filename.endswith("data.pkl")]
    if len(pickles) != 1 or pickles[0].filename.count("/") != 1:
        raise CheckpointError("it has no data.pkl, so torch.save did not write it")
    root = pickles[0].filename.removesuffix("data.pkl")
    order = [each for each in entries if each.filename == f"{root}byteorder"]
    if order and archive.read(order[0])[:10] != b"little":
        raise CheckpointError("it was written on a computer of another byte order")
    if pickles[0].file_size > MAX_PICKLE_BYTES:
        raise CheckpointError(
            f"it has {pickles[0].file_size:,} bytes of names, {MAX_PICKLE_BYTES:,} is the limit"
        )
    prefix = f"{root}data/"
    records = {
        each.filename.removeprefix(prefix): each.file_size
        for each in entries
        if each.filename.startswith(prefix)
    }
    return records, archive.read(pickles[0])


def _check_storages(storages: list[Storage], records: Mapping[str, int]) -> None:
    for storage in storages:
        found = records.get(storage.key)
        if found is None:
            raise CheckpointError(
                f"it lacks the record {shown(storage.key)}, which its data.pkl names"
            )
        if found < storage.bytes:
            raise CheckpointError(
                f"its record {shown(storage.key)} has {found:,} bytes, {storage.bytes:,} are stated"
            )


def state_dict(loaded: Any) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """The tensors of what was loaded, and what a trainer's own dictionary has beside them.

    Raises:
        CheckpointError: There is no dictionary of tensors.
    """
    beside: dict[str, Any] = {}
    for key in CONTAINERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            beside |= {str(name): value for name, value in loaded.items() if name != key}
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not loaded:
        raise CheckpointError(f"it holds {type(loaded).__name__}, expected a dictionary of tensors")
    return loaded, beside


def _tensors(loaded: Any) -> tuple[dict[str, PickledTensor], dict[str, int]]:
    """The model's tensors by name; and the entries beside them, with their numbers of tensors."""
    entries, beside = state_dict(loaded)
    unusable = [
        str(key)
        for key, value in entries.items()
        if not (type(key) is str and isinstance(value, PickledTensor) and value.is_whole)
    ]
    if unusable:
        raise CheckpointError(
            f"it has {len(unusable)} entries that are not whole tensors of "
            f"{', '.join(DTYPES.values())}: {listed(unusable)}"
        )
    loose = [name for name, value in beside.items() if isinstance(value, PickledTensor)]
    if loose:
        raise CheckpointError(
            f"it has {len(loose)} tensors beside those of its state dict: {listed(loose)}; save "
            "them all in one dictionary"
        )
    counts = {name: _count(value) for name, value in beside.items()}
    return dict(entries), {name: count for name, count in counts.items() if count}


def _count(value: Any) -> int:
    """Tensors in nested values; each part is visited once, however often it occurs."""
    remaining, seen, count = [value], {id(value)}, 0
    while remaining:
        each = remaining.pop()
        count += isinstance(each, PickledTensor)
        parts = each.values() if isinstance(each, dict) else each
        if isinstance(each, dict | list | tuple):
            new = {id(part): part for part in parts if id(part) not in seen}
            seen.update(new)
            remaining.extend(new.values())
    return count


def _environment() -> dict[str, str]:
    """This process's variables, with its own import path, so that the child finds this package."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
