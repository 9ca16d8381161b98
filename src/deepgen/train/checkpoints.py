"""Checkpoints of a run: a folder per step that appears atomically and is verified when read.

A folder is written under a temporary name, its files are hashed into ``manifest.json``, everything
is synced to disk, and only then it is renamed; only after that an older one is deleted. So the
newest folder with a final name is complete, whenever a process is killed. Disks may still fail, so
all hashes are checked before anything is read. Tensors are safetensors, the rest is JSON; nothing
is unpickled.

Tensors that a process holds as a whole are a file per group. Those sharded among processes are a
file per process (torch's distributed checkpoint), and any number of processes can read them,
sharded or not.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from deepgen.checkpoint.writing import share_like_folder, write_json
from deepgen.data.shards import sync_folder
from deepgen.errors import CheckpointError
from deepgen.reading import read_json
from deepgen.train.parallel.distributed import Processes
from deepgen.train.parallel.shard_files import (
    Groups,
    local_files,
    read_shards,
    stored_like,
    write_shards,
)
from deepgen.train.parallel.sharding import local_bytes, shard_like

MANIFEST = "manifest.json"
NAME = re.compile(r"step_(\d{8})")
DAMAGED = "damaged_"
"""Prefix of the name of a checkpoint whose hashes were found to be wrong."""
MAX_VALUES_BYTES = 1 << 30
"""Of plain values, whose hash has been compared: states of generators and sums of metrics."""

PARTIAL = re.compile(r"\.step_\d{8}\.[0-9a-f]{8}\.partial")

Description = dict[str, int | str]
"""Size and hash of a file."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint whose hashes were right."""

    path: Path
    step: int

    def shapes(self, name: str) -> dict[str, tuple[int, ...]]:
        """Shapes of a group of tensors."""
        file = self._file(name)
        if not file.exists():
            return {key: tuple(each.shape) for key, each in stored_like(self.path, name).items()}
        with safe_open(file, "pt") as stored:
            return {key: tuple(stored.get_slice(key).get_shape()) for key in stored.keys()}  # noqa: SIM118  # It is not a dict.

    def tensors(self, name: str, like: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """A group of tensors.

        Args:
            name: Of the group.
            like: Weights. A tensor named like one of them, or ``what.`` and its name, with the same
                shape, is sharded among processes as the weight is; all others are whole.
        """
        if self._file(name).exists():
            stored = load_file(self._file(name))
            return {
                key: shard_like(each, self._example(key, each, like or {}))
                for key, each in stored.items()
            }
        tensors = {
            key: torch.empty_like(self._example(key, each, like or {}), dtype=each.dtype)
            for key, each in stored_like(self.path, name).items()
        }
        read_shards(self.path, name, tensors)
        return tensors

    def _file(self, name: str) -> Path:
        return self.path / f"{name}.safetensors"

    def _example(self, key: str, stored: Tensor, like: Mapping[str, Tensor]) -> Tensor:
        for name in (key, key.partition(".")[2]):
            if name in like and like[name].shape == stored.shape:
                return like[name].detach()
        return torch.empty(stored.shape)

    def values(self, name: str) -> dict[str, Any]:
        """A group of plain values."""
        values: dict[str, Any] = read_json(self.path / f"{name}.json", limit=MAX_VALUES_BYTES)
        return values


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: Holds them, one folder per step.
        keep: How many are kept, the newest ones.
        keep_every: Of steps that are multiples of this the checkpoint stays for good.
    """

    def __init__(self, folder: Path, keep: int = 3, keep_every: int | None = None) -> None:
        if keep < 1:
            raise ValueError(f"at least 1 checkpoint must be kept, got {keep}")
        self.folder = folder
        self.keep = keep
        self.keep_every = keep_every

    def write(
        self,
        step: int,
        tensors: Groups,
        values: Mapping[str, Mapping[str, Any]],
    ) -> Path:
        """Write the checkpoint of a step, then delete those that are too many.

        Args:
            step: Steps done.
            tensors: Groups of tensors, a file each.
            values: Groups of plain values, a file each.

        Raises:
            CheckpointError: It cannot be written. All others are unchanged.
        """
        temporary = self._temporary(step)
        try:
            self._make(temporary, _bytes(tensors))
            with _named_errors(self._path(step)):
                for name, group in tensors.items():
                    stored = {key: each.detach().cpu().contiguous() for key, each in group.items()}
                    save_file(stored, temporary / f"{name}.safetensors")
            return self._publish(step, temporary, values, {})
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def write_sharded(
        self,
        step: int,
        tensors: Groups,
        values: Mapping[str, Mapping[str, Any]],
        processes: Processes,
    ) -> Path:
        """The same by several processes, each of which writes its part of the tensors.

        A collective call; if one process fails, all do.
        """
        path = self._path(step)
        temporary = processes.on_rank_zero(lambda: self._temporary(step))
        try:
            needed = sum(processes.gather(_bytes(tensors)))
            processes.on_rank_zero(lambda: self._make(temporary, needed))
            with _named_errors(path):
                write_shards(temporary, tensors, processes.object_group)
            files = _described_by_all(local_files(temporary, processes.rank), processes)
            return processes.on_rank_zero(lambda: self._publish(step, temporary, values, files))
        finally:
            if processes.is_rank_zero:
                shutil.rmtree(temporary, ignore_errors=True)

    def newest(self) -> Checkpoint | None:
        """The newest intact checkpoint; None if there never was any.

        A damaged one is reported by a warning and renamed.

        Raises:
            CheckpointError: There are checkpoints, and all are damaged.
        """
        # With those that an earlier start has renamed: even then a run must not start anew.
        damaged = [path.name for path in sorted(self.folder.glob(f"{DAMAGED}step_*"))]
        for path in sorted(self.folder.glob(".step_*.partial")):
            if PARTIAL.fullmatch(path.name):
                warnings.warn(f"{path} was incomplete when its run ended; removed", stacklevel=2)
                shutil.rmtree(path)
        for step in reversed(self._steps()):
            path = self._path(step)
            problem = _problem(path, step)
            if problem is None:
                return Checkpoint(path, step)
            damaged.append(path.name)
            warnings.warn(
                f"{path} is damaged ({problem}) and is not used; trying the one before it",
                stacklevel=2,
            )
            path.rename(path.with_name(f"{DAMAGED}{path.name}_{secrets.token_hex(4)}"))
        if damaged:
            raise CheckpointError(
                f"no checkpoint in {self.folder} is intact: {', '.join(damaged)} are damaged; "
                "train in another folder to start over"
            )
        return None

    def _steps(self) -> list[int]:
        """Steps that have a folder, ascending."""
        if not self.folder.is_dir():
            return []
        names = [NAME.fullmatch(each.name) for each in self.folder.iterdir()]
        return sorted(int(name[1]) for name in names if name)

    def _path(self, step: int) -> Path:
        return self.folder / f"step_{step:08}"

    def _temporary(self, step: int) -> Path:
        """Temporary name of a checkpoint."""
        return self.folder / f".{self._path(step).name}.{secrets.token_hex(4)}.partial"

    def _make(self, temporary: Path, needed: int) -> None:
        """Make the folder if the disk has enough room; others may need what is left of it."""
        with _named_errors(temporary):
            temporary.mkdir(parents=True)
            free = shutil.disk_usage(temporary).free
            if free < needed:
                raise OSError(f"{needed:,} bytes are needed and {free:,} are free")

    def _publish(
        self,
        step: int,
        temporary: Path,
        values: Mapping[str, Mapping[str, Any]],
        files: Mapping[str, Description],
    ) -> Path:
        """Write the manifest, rename the folder, and delete checkpoints that are too many."""
        path = self._path(step)
        with _named_errors(path):
            for name, each in values.items():
                write_json(temporary / f"{name}.json", each)
            _seal(temporary, step, files)
            share_like_folder(temporary)
            if path.exists():
                # The run was resumed from an earlier step, as nothing newer was intact.
                shutil.rmtree(path)
            temporary.rename(path)
            sync_folder(self.folder)
        for old in [each for each in self._steps() if each <= step][: -self.keep]:
            if self.keep_every is None or old % self.keep_every:
                shutil.rmtree(self._path(old), ignore_errors=True)
        return path


def open_checkpoint(path: Path) -> Checkpoint:
    """A checkpoint, or the newest intact one of a run; nothing is changed on disk.

    Args:
        path: Folder of the checkpoint or of the run.

    Raises:
        CheckpointError: There is none, or none is intact.
    """
    own = NAME.fullmatch(path.name)
    if own is not None:
        steps = {int(own[1]): path}
    else:
        names = [(NAME.fullmatch(each.name), each) for each in path.glob("checkpoints/*")]
        steps = {int(name[1]): each for name, each in names if name is not None}
    if not steps and not any(path.glob(f"checkpoints/{DAMAGED}step_*")):
        raise CheckpointError(
            f"{path} holds no checkpoint; give the folder of a run, or one of its checkpoints"
        )
    for step, each in sorted(steps.items(), reverse=True):
        problem = _problem(each, step)
        if problem is None:
            return Checkpoint(each, step)
        warnings.warn(f"{each} is damaged ({problem}) and is not used", stacklevel=2)
    raise CheckpointError(f"no checkpoint in {path} is intact; start from another one")


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Turn errors of writing into one line that names the checkpoint."""
    try:
        yield
    except (OSError, SafetensorError) as cause:
        reason = getattr(cause, "strerror", None) or cause
        raise CheckpointError(f"{path} cannot be written: {reason}") from cause


def _bytes(tensors: Groups) -> int:
    """Bytes that this process has to write."""
    return sum(local_bytes(group.values()) for group in tensors.values())


def _described(paths: Iterable[Path]) -> dict[str, Description]:
    """Sizes and hashes of files, which are synced to disk first."""
    found: dict[str, Description] = {}
    for path in paths:
        _sync_file(path)
        found[path.name] = {"bytes": path.stat().st_size, "sha256": _hash(path)}
    return found


def _described_by_all(paths: Iterable[Path], processes: Processes) -> dict[str, Description]:
    """The files of all processes, described by those that wrote them; a collective call.

    Raises:
        CheckpointError: A process could not read its files.
    """
    found: dict[str, Description] = {}
    mine: dict[str, Description] | str
    try:
        mine = _described(paths)
    except OSError as cause:
        mine = str(cause)
    for each in processes.gather(mine):
        if isinstance(each, str):
            raise CheckpointError(f"a file that was just written cannot be read: {each}")
        found |= each
    return found


def _seal(folder: Path, step: int, known: Mapping[str, Description]) -> None:
    """Sync all files to disk and write the manifest; some are described already."""
    others = sorted(each for each in folder.iterdir() if each.name not in known)
    manifest = {"step": step, "files": {**known, **_described(others)}}
    write_json(folder / MANIFEST, {**manifest, "sha256": _hash_values(manifest)})
    _sync_file(folder / MANIFEST)
    sync_folder(folder)


def _problem(path: Path, step: int) -> str | None:
    """What is wrong with a checkpoint, if anything."""
    try:
        manifest = read_json(path / MANIFEST)
        if manifest.pop("sha256") != _hash_values(manifest) or manifest["step"] != step:
            return f"{MANIFEST} is not what was written"
        for name, written in manifest["files"].items():
            file = path / name
            if not file.is_file():
                return f"{name} is missing"
            if file.stat().st_size != written["bytes"] or _hash(file) != written["sha256"]:
                return f"{name} is not what was written"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} cannot be read"
    return None


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash_values(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _sync_file(path: Path) -> None:
    """Sync a file to disk; Windows requires that it was opened for writing."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())
