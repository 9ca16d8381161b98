"""Training checkpoints of ``torch.save``, the only pickles that are ever opened.

They are looked at without running them, then read in a process of its own, by torch's loader that
builds nothing but tensors (``weights_only``), with a limit on memory. What comes back is
safetensors, one folder of them per component.
"""

from __future__ import annotations

import os
import pickletools
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepgen.checkpoint.files import listed
from deepgen.errors import CheckpointError

CONTAINERS = ("state_dict", "module")
"""Keys that the tensors may be under, as of trainers that save more than the model."""

MAX_PICKLE_BYTES = 32 << 20
"""Of names and shapes; those of the released model take 300 kB."""

MAX_ENTRIES = 100_000

DTYPES = ("float32", "bfloat16", "float16")

SPARE_BYTES = 256 << 20

CONVERTED_SHARD_BYTES = 2 << 30
"""Half of what is usual: while a file is written, the checkpoint is mapped too."""

ALLOWED = frozenset(
    {
        "collections OrderedDict",
        "torch Size",
        "torch._utils _rebuild_parameter",
        "torch._utils _rebuild_tensor_v2",
        *(f"torch {kind}Storage" for kind in ("Float", "Half", "BFloat16", "Double", "Long")),
        *(f"torch {kind}Storage" for kind in ("Int", "Short", "Char", "Byte", "Bool")),
    }
)
"""What a state dict needs. Everything else that a pickle may name is refused unread."""

IMPORTING = frozenset({"STACK_GLOBAL", "INST", "OBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4"})
"""Other ways of naming code, which ``torch.save`` never uses."""


def unpack(source: Path, folder: Path) -> None:
    """Store the tensors of a native checkpoint as safetensors, ``folder/COMPONENT/*``.

    Raises:
        CheckpointError: It is no state dict of a DeepGen model, is damaged, or names code.
    """
    check_archive(source)
    # -P: a folder of downloads may hold a torch.py, which -m alone would import.
    reader = ("-P", "-m", "deepgen.checkpoint.unpickling")
    command = [sys.executable, *reader, str(source), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment())
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"its reader ended with {done.returncode}"]
        raise CheckpointError(f"{source.name} cannot be read: {lines[-1]}")


def check_no_shards(folder: Path) -> None:
    """Say how a folder of DeepSpeed's shards becomes one file, where this is one.

    Raises:
        CheckpointError: It is.
    """
    shards = [*folder.glob("*_model_states.pt"), *folder.glob("*/*_model_states.pt")]
    if shards:
        raise CheckpointError(
            f"{folder} is a checkpoint of DeepSpeed in shards, which its own script puts together: "
            f"python {folder}/zero_to_fp32.py {folder} model.pt; convert that file"
        )


def check_archive(source: Path) -> None:
    """Refuse a file that is no archive of tensors, from its directory and opcodes alone.

    Raises:
        CheckpointError: What was found.
    """
    name = source.name
    try:
        if not zipfile.is_zipfile(source):
            raise CheckpointError(
                f"{name} is not an archive of torch.save; a file of torch before 1.6 has to be "
                "loaded and saved again with a newer one"
            )
        with zipfile.ZipFile(source) as archive:
            entries = archive.infolist()
            _check_entries(name, entries, source.stat().st_size)
            pickles = [each for each in entries if each.filename.endswith("data.pkl")]
            if len(pickles) != 1 or pickles[0].filename.count("/") != 1:
                raise CheckpointError(f"{name} has no data.pkl, so torch.save did not write it")
            if pickles[0].file_size > MAX_PICKLE_BYTES:
                raise CheckpointError(
                    f"{name} has {pickles[0].file_size:,} bytes of names, "
                    f"{MAX_PICKLE_BYTES:,} is the limit"
                )
            _check_opcodes(name, archive.read(pickles[0]))
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError) as cause:
        raise CheckpointError(f"{name} is truncated or damaged: {cause}") from cause


def _check_entries(name: str, entries: list[zipfile.ZipInfo], size: int) -> None:
    if len(entries) > MAX_ENTRIES:
        raise CheckpointError(f"{name} has {len(entries):,} entries, {MAX_ENTRIES:,} is the limit")
    packed = [each.filename for each in entries if each.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise CheckpointError(
            f"{name} is compressed, which torch.save never does: {listed(packed)}"
        )
    # Entries may lie about their place: stored twice, a small file would look like a large one.
    if sum(each.file_size for each in entries) > size:
        raise CheckpointError(f"{name} has entries that overlap")


def _check_opcodes(name: str, pickle: bytes) -> None:
    named = set()
    try:
        for opcode, argument, _ in pickletools.genops(pickle):
            if opcode.name == "GLOBAL":
                named.add(str(argument))
            elif opcode.name in IMPORTING:
                named.add(f"code by {opcode.name}")
    except Exception as cause:
        # The standard library's reader of opcodes raises whatever its parts do.
        raise CheckpointError(f"{name} has a damaged data.pkl: {cause}") from cause
    foreign = named - ALLOWED
    if foreign:
        raise CheckpointError(
            f"{name} holds more than tensors ({listed(foreign)}) and is not opened; save the "
            "state dict alone, or as safetensors"
        )


def state_dict(loaded: Any) -> Mapping[str, Any]:
    """The tensors of what was loaded, from within a trainer's own dictionary if need be.

    Raises:
        CheckpointError: There is no dictionary of tensors.
    """
    for key in CONTAINERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not loaded:
        raise CheckpointError(f"it holds {type(loaded).__name__}, expected a dictionary of tensors")
    return loaded


def _environment() -> dict[str, str]:
    """This process's variables, with its own import path, so that the child finds this package."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
