"""Checkpoints of a run: a folder per step that appears whole, proves itself and never lies.

A folder is written aside, its files are hashed into ``manifest.json``, everything is forced to the
disc, and only then it takes its name; only after that an older one is deleted. Whatever is killed
at whatever moment, the newest folder with a name is complete. Discs still err, so all hashes are
checked before anything is read. Tensors are safetensors, the rest is JSON; nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from deepgen.checkpoint.writing import write_json
from deepgen.errors import CheckpointError

MANIFEST = "manifest.json"
NAME = re.compile(r"step_(\d{8})")
PARTIAL = re.compile(r"\.step_\d{8}\.[0-9a-f]{8}\.partial")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint whose hashes were right."""

    path: Path
    step: int

    def tensors(self, name: str) -> dict[str, Tensor]:
        """A group of tensors."""
        return load_file(self.path / f"{name}.safetensors")

    def values(self, name: str) -> dict[str, Any]:
        """A group of plain values."""
        values: dict[str, Any] = json.loads((self.path / f"{name}.json").read_text("utf-8"))
        return values


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: Holds them, one folder per step.
        keep: How many are kept.
    """

    def __init__(self, folder: Path, keep: int = 3) -> None:
        if keep < 1:
            raise ValueError(f"at least 1 checkpoint must be kept, got {keep}")
        self.folder = folder
        self.keep = keep

    def write(
        self,
        step: int,
        tensors: Mapping[str, Mapping[str, Tensor]],
        values: Mapping[str, Mapping[str, Any]],
    ) -> Path:
        """Write the checkpoint of a step, then delete those that are too many.

        Args:
            step: Updates done.
            tensors: Groups of tensors, a file each.
            values: Groups of plain values, a file each.

        Raises:
            CheckpointError: It cannot be written. All others are as they were.
        """
        path = self.folder / f"step_{step:08}"
        aside = self.folder / f".{path.name}.{secrets.token_hex(4)}.partial"
        try:
            self._check_space(tensors)
            aside.mkdir(parents=True)
            for name, group in tensors.items():
                stored = {key: value.detach().cpu().contiguous() for key, value in group.items()}
                save_file(stored, aside / f"{name}.safetensors")
            for name, each in values.items():
                write_json(aside / f"{name}.json", each)
            _seal(aside, step)
            if path.exists():
                # Of a run that was taken up again before this step; nothing newer was good.
                shutil.rmtree(path)
            aside.rename(path)
            _sync(self.folder)
        except (OSError, SafetensorError) as cause:
            reason = getattr(cause, "strerror", None) or cause
            raise CheckpointError(f"{path} cannot be written: {reason}") from cause
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        for old in [each for each in self._steps() if each <= step][: -self.keep]:
            shutil.rmtree(self.folder / f"step_{old:08}", ignore_errors=True)
        return path

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint that is what was written; None where there never was any.

        A damaged one is reported by a warning and renamed, so that nobody takes it for good.

        Raises:
            CheckpointError: There are checkpoints, and all are damaged.
        """
        damaged = []
        for path in sorted(self.folder.glob(".step_*.partial")):
            if PARTIAL.fullmatch(path.name):
                warnings.warn(f"{path} was not finished when its run ended; removed", stacklevel=2)
                shutil.rmtree(path)
        for step in reversed(self._steps()):
            path = self.folder / f"step_{step:08}"
            problem = _problem(path, step)
            if problem is None:
                return Checkpoint(path, step)
            damaged.append(path.name)
            warnings.warn(
                f"{path} is damaged ({problem}) and is not used; the one before it is tried",
                stacklevel=2,
            )
            path.rename(path.with_name(f"damaged_{path.name}_{secrets.token_hex(4)}"))
        if damaged:
            raise CheckpointError(
                f"no checkpoint in {self.folder} is whole: {', '.join(damaged)} are damaged; "
                "train in another folder to begin anew"
            )
        return None

    def _steps(self) -> list[int]:
        """Steps that have a folder, rising."""
        if not self.folder.is_dir():
            return []
        names = [NAME.fullmatch(each.name) for each in self.folder.iterdir()]
        return sorted(int(name[1]) for name in names if name)

    def _check_space(self, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Do not even begin what cannot fit; others may live on this disc."""
        needed = sum(
            value.numel() * value.element_size()
            for group in tensors.values()
            for value in group.values()
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise OSError(f"{needed:,} bytes are needed and {free:,} are free")


def open_checkpoint(path: Path) -> Checkpoint:
    """A checkpoint, or the newest one of a run that is what was written; nothing is changed.

    Args:
        path: Folder of the checkpoint or of the run.

    Raises:
        CheckpointError: There is none, or none that is whole.
    """
    own = NAME.fullmatch(path.name)
    if own is not None:
        steps = {int(own[1]): path}
    else:
        names = [(NAME.fullmatch(each.name), each) for each in path.glob("checkpoints/*")]
        steps = {int(name[1]): each for name, each in names if name is not None}
    if not steps:
        raise CheckpointError(
            f"{path} holds no checkpoint; give the folder of a run, or one of its checkpoints"
        )
    for step, each in sorted(steps.items(), reverse=True):
        problem = _problem(each, step)
        if problem is None:
            return Checkpoint(each, step)
        warnings.warn(f"{each} is damaged ({problem}) and is not used", stacklevel=2)
    raise CheckpointError(f"no checkpoint in {path} is whole; begin from another one")


def _seal(folder: Path, step: int) -> None:
    """Force all files to the disc and write down what they are."""
    files = {}
    for path in sorted(folder.iterdir()):
        _sync(path)
        files[path.name] = {"bytes": path.stat().st_size, "sha256": _hash(path)}
    manifest = {"step": step, "files": files}
    write_json(folder / MANIFEST, {**manifest, "sha256": _hash_values(manifest)})
    _sync(folder / MANIFEST)
    _sync(folder)


def _problem(path: Path, step: int) -> str | None:
    """What is wrong with a checkpoint, if anything."""
    try:
        manifest = json.loads((path / MANIFEST).read_text("utf-8"))
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


def _sync(path: Path) -> None:
    """Force a file, or the names in a folder, to the disc."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
