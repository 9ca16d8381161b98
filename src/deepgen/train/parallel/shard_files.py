"""Tensors that are divided among processes as files: torch's distributed checkpoint.

Every process writes its own rows, as safetensors that say where they belong, and any number of
processes may read them: each takes the rows that are its own then.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

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
    """Write what this process holds of some groups of tensors, and force it to the disc.

    All processes must do so at once; if one fails, all do.

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


def own_files(folder: Path, rank: int) -> list[Path]:
    """What a process has written."""
    return sorted(folder.glob(f"shard-{rank + 1:05}-*.safetensors"))


def shard_shapes(folder: Path, name: str) -> dict[str, tuple[int, ...]]:
    """Shapes of a group of tensors as a whole."""
    prefix = f"{name}."
    metadata = HuggingFaceStorageReader(str(folder)).read_metadata()
    return {
        key[len(prefix) :]: tuple(each.size)
        for key, each in metadata.state_dict_metadata.items()
        if isinstance(each, TensorStorageMetadata) and key.startswith(prefix)
    }


def read_shards(folder: Path, name: str, tensors: Mapping[str, Tensor]) -> None:
    """Fill tensors of a group, divided or not, with what was stored of them."""
    flat = {f"{name}.{key}": value for key, value in tensors.items()}
    with warnings.catch_warnings():
        # That no processes talk to each other is meant: each reads for itself.
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        load(flat, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=True)
