"""Files of tensors that are sharded among processes: torch's distributed checkpoint.

Every process writes its rows, as safetensors that hold their offsets, and any number of processes
may read them, each its own rows.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import (
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

Groups = Mapping[str, Mapping[str, Tensor]]


def write_shards(folder: Path, tensors: Groups, group: dist.ProcessGroup | None) -> None:
    """Write this process's part of some groups of tensors, synced to disk.

    A collective call; if one process fails, all do.

    Raises:
        OSError: A process could not write.
    """
    flat = {
        f"{name}.{key}": value.detach()
        for name, each in tensors.items()
        for key, value in each.items()
    }
    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    try:
        save(flat, storage_writer=writer, process_group=group)
    except CheckpointException as cause:
        failure = next(iter(cause.failures.values()))[0]
        raise OSError(getattr(failure, "strerror", None) or str(failure)) from cause


def local_files(folder: Path, rank: int) -> list[Path]:
    """The files that a process has written."""
    return sorted(folder.glob(f"shard-{rank + 1:05}-*.safetensors"))


def stored_like(folder: Path, name: str) -> dict[str, Tensor]:
    """Shapes and types of a group of tensors as a whole, on the meta device."""
    prefix = f"{name}."
    metadata = HuggingFaceStorageReader(str(folder)).read_metadata()
    return {
        key[len(prefix) :]: torch.empty(each.size, dtype=each.properties.dtype, device="meta")
        for key, each in metadata.state_dict_metadata.items()
        if isinstance(each, TensorStorageMetadata) and key.startswith(prefix)
    }


def read_shards(folder: Path, name: str, tensors: Mapping[str, Tensor]) -> None:
    """Fill tensors of a group, sharded or not, with their stored values."""
    flat = {f"{name}.{key}": value for key, value in tensors.items()}
    with warnings.catch_warnings():
        # Each process reads on its own, which is intended.
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        load(flat, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=True)
