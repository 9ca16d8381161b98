"""Writing a model folder so that nobody ever sees half of one."""

from __future__ import annotations

import glob
import json
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from deepgen.checkpoint.files import INDEX_NAME, WEIGHT_STEMS
from deepgen.errors import CheckpointError

# Below the limits of old file systems and of what people like to resume a download of.
SHARD_BYTES = 4 << 30


@contextmanager
def appearing_whole(path: Path, *, overwrite: bool, known_by: str = INDEX_NAME) -> Iterator[Path]:
    """A new folder beside ``path`` that takes its name once the block is through.

    Args:
        path: The folder.
        overwrite: Replace a folder of the same kind that is there.
        known_by: A file that every folder of this kind has.

    Raises:
        CheckpointError: ``path`` is taken: by anything but an empty folder, or with ``overwrite``
            by one of another kind; or it cannot be written.
    """
    _check_free(path, known_by if overwrite else None)
    token = secrets.token_hex(4)
    new = path.parent / f".{path.name}.{token}.partial"
    old = path.parent / f".{path.name}.{token}.old"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.mkdir()
        yield new
        share_like_folder(new)
        if path.exists():
            path.rename(old)
        try:
            new.rename(path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise
    except OSError as cause:
        raise CheckpointError(f"{path} cannot be written: {cause.strerror or cause}") from cause
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def share_like_folder(folder: Path) -> None:
    """Let all who may read a folder read its files; safetensors are their writer's alone."""
    mode = folder.stat().st_mode & 0o666
    for each in folder.rglob("*"):
        if each.is_file():
            each.chmod(mode)


def remove_unfinished(path: Path) -> None:
    """Remove what a killed process left beside a folder that was to appear whole.

    Args:
        path: The folder; what somebody is writing there now would be lost.
    """
    unfinished = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}\.(partial|old)")
    for each in sorted(path.parent.glob(f".{glob.escape(path.name)}.*")):
        if not unfinished.fullmatch(each.name):
            continue
        if each.suffix == ".old" and not path.exists():
            # The kill came when the old folder had lost its name and the new one had none.
            each.rename(path)
        else:
            shutil.rmtree(each, ignore_errors=True)


def _check_free(path: Path, replaceable: str | None) -> None:
    if not path.exists() and not path.is_symlink():
        return
    if path.is_symlink() or not path.is_dir():
        raise CheckpointError(f"{path} exists and is no folder")
    if not any(path.iterdir()):
        return
    if replaceable is None:
        raise CheckpointError(f"{path} exists; give another folder, or overwrite it explicitly")
    if not (path / replaceable).is_file():
        raise CheckpointError(f"{path} has no {replaceable} and is not overwritten")


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON file, with the folder it is in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(values, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def config_values(config: Any) -> dict[str, Any]:
    """A diffusers or transformers configuration as the values of its file.

    Without diffusers' own notes: by ``_use_default_values`` a reader would reset what the list
    names, although it has been set since.
    """
    if hasattr(config, "to_json_string"):
        values: dict[str, Any] = json.loads(config.to_json_string())
        return values
    return {name: value for name, value in dict(config).items() if name[0] != "_"}


def write_weights(
    folder: Path, component: str, tensors: Mapping[str, Tensor], dtype: torch.dtype | None
) -> None:
    """Write a component's tensors: one file, or shards with an index where they are large."""
    shards = _shards(tensors, dtype)
    stem = WEIGHT_STEMS[component]
    names = [f"{stem}-{place + 1:05}-of-{len(shards):05}" for place in range(len(shards))]
    if len(shards) == 1:
        names = [stem]
    for name, keys in zip(names, shards, strict=True):
        stored = {key: tensors[key].detach().to("cpu", dtype).contiguous() for key in keys}
        # What transformers and diffusers ask for: that these are PyTorch's tensors.
        save_file(stored, folder / f"{name}.safetensors", metadata={"format": "pt"})
    if len(shards) > 1:
        weight_map = {
            key: f"{name}.safetensors"
            for name, keys in zip(names, shards, strict=True)
            for key in keys
        }
        total = sum(_bytes(value, dtype) for value in tensors.values())
        write_json(
            folder / f"{stem}.safetensors.index.json",
            {"metadata": {"total_size": total}, "weight_map": weight_map},
        )


def _shards(tensors: Mapping[str, Tensor], dtype: torch.dtype | None) -> list[list[str]]:
    """Names of the tensors of each file, in order."""
    shards: list[list[str]] = [[]]
    size = 0
    for name, value in tensors.items():
        added = _bytes(value, dtype)
        if shards[-1] and size + added > SHARD_BYTES:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += added
    return shards


def _bytes(tensor: Tensor, dtype: torch.dtype | None) -> int:
    return tensor.numel() * (dtype or tensor.dtype).itemsize
