"""Writing model folders, which appear complete or not at all."""

from __future__ import annotations

import glob
import json
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_state_dict_into_shards_factory
from safetensors.torch import save_file
from torch import Tensor

from deepgen.checkpoint.files import INDEX_NAME, WEIGHT_STEMS
from deepgen.errors import CheckpointError
from deepgen.locks import locked

# Below the limits of old file systems, and small enough to download again.
SHARD_BYTES = 4 << 30


@contextmanager
def atomic_folder(path: Path, *, overwrite: bool, marker: str = INDEX_NAME) -> Iterator[Path]:
    """A temporary folder next to ``path``, renamed to it when the block succeeds.

    Args:
        overwrite: Replace an existing folder of the same kind.
        marker: A file that every folder of this kind contains.

    Raises:
        CheckpointError: ``path`` is a file or a folder with content (with ``overwrite``, one of
            another kind), or cannot be written.
        FolderInUseError: Another process is writing it.
    """
    with locked(path, beside=True):
        _check_free(path, marker if overwrite else None)
        yield from _replaced(path)


def _replaced(path: Path) -> Iterator[Path]:
    """Write a folder next to ``path``, and rename it."""
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
    """Give all files the folder's permissions; safetensors makes files private to their owner."""
    mode = folder.stat().st_mode & 0o666
    for each in folder.rglob("*"):
        if each.is_file():
            each.chmod(mode)


def remove_unfinished(path: Path) -> None:
    """Remove temporary folders of :func:`atomic_folder` that a killed process left behind.

    Args:
        path: The final folder; no process may be writing it now.
    """
    unfinished = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}\.(partial|old)")
    for each in sorted(path.parent.glob(f".{glob.escape(path.name)}.*")):
        if not unfinished.fullmatch(each.name):
            continue
        if each.suffix == ".old" and not path.exists():
            # Killed between the renaming of the old folder and that of the new one.
            each.rename(path)
        else:
            shutil.rmtree(each, ignore_errors=True)


def _check_free(path: Path, replaceable: str | None) -> None:
    if not path.exists() and not path.is_symlink():
        return
    if path.is_symlink() or not path.is_dir():
        raise CheckpointError(f"{path} exists and is not a folder")
    if not any(path.iterdir()):
        return
    if replaceable is None:
        raise CheckpointError(f"{path} exists; choose another folder, or overwrite it")
    if not (path / replaceable).is_file():
        raise CheckpointError(f"{path} has no {replaceable} and is not overwritten")


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON file, and create its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(values, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def config_values(config: Any) -> dict[str, Any]:
    """A diffusers or transformers configuration as the values of its file.

    Without diffusers' private entries: by ``_use_default_values`` a reader would reset values that
    have been set since.
    """
    if hasattr(config, "to_json_string"):
        values: dict[str, Any] = json.loads(config.to_json_string())
        return values
    return {name: value for name, value in dict(config).items() if name[0] != "_"}


def write_weights(
    folder: Path,
    component: str,
    tensors: Mapping[str, Tensor],
    dtype: torch.dtype | None,
    *,
    shard_bytes: int | None = None,
    variant: str | None = None,
) -> None:
    """Write a component's tensors: one file, or shards with an index above a size."""
    sizes = {
        key: tensor.numel() * (dtype or tensor.dtype).itemsize for key, tensor in tensors.items()
    }
    write_shards(
        folder,
        component,
        sizes,
        lambda key: tensors[key].detach().to("cpu", dtype),
        shard_bytes=shard_bytes,
        variant=variant,
    )


def write_shards(
    folder: Path,
    component: str,
    sizes: Mapping[str, int],
    read: Callable[[str], Tensor],
    *,
    shard_bytes: int | None = None,
    variant: str | None = None,
) -> None:
    """Write a component's tensors while no more than one file of them is in memory.

    Args:
        folder: Where the files go; it exists.
        component: Decides their names.
        sizes: Bytes of each tensor.
        read: Gives a tensor by its name.
        shard_bytes: Of a file at most, unless one tensor is larger; None is ``SHARD_BYTES``. Twice
            as much is in memory, since safetensors copies what it writes.
        variant: A word in the files' names, such as ``fp16``.
    """
    stem = WEIGHT_STEMS[component]
    word = f".{variant}" if variant else ""
    split = split_state_dict_into_shards_factory(
        dict(sizes),
        get_storage_size=lambda size: size,
        filename_pattern=f"{stem}{word}{{suffix}}.safetensors",
        max_shard_size=shard_bytes or SHARD_BYTES,
    )
    for name, keys in split.filename_to_tensors.items():
        stored = {key: read(key).contiguous() for key in keys}
        # Required by transformers and diffusers.
        save_file(stored, folder / name, metadata={"format": "pt"})
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        write_json(folder / f"{stem}.safetensors.index{word}.json", index)
