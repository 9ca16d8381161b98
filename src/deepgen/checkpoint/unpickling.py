"""The process that reads a pickle: ``python -m deepgen.checkpoint.unpickling SOURCE FOLDER``.

Its last line on standard error says what was wrong. Names, shapes and places of all tensors have
been checked before, see :mod:`deepgen.checkpoint.pickles`.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor

from deepgen.checkpoint.files import listed
from deepgen.checkpoint.native import by_component
from deepgen.checkpoint.pickles import CONVERTED_SHARD_BYTES, SPARE_BYTES, state_dict, time_limit
from deepgen.checkpoint.weights import is_finite
from deepgen.checkpoint.writing import write_shards
from deepgen.errors import CheckpointError, reason_of, shown


def main(arguments: list[str]) -> int:
    """Read, check and store; the exit code."""
    source, folder = map(Path, arguments)
    try:
        _store(_load(source), folder)
    except CheckpointError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"it cannot be stored: {reason_of(error)}\n")
        return 2
    except MemoryError:
        sys.stderr.write("it needs more memory than its size allows for\n")
        return 2
    return 0


def limit_resources(source: Path) -> None:
    """Take no more than the file, mapped and its largest part copied once more, can need."""
    # Each further thread would reserve address space, which is what is limited.
    torch.set_num_threads(1)
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except (ImportError, OSError):
        # Elsewhere than on Linux there is no such limit, or no way to tell what is used.
        return
    used = pages * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2 * source.stat().st_size + SPARE_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (time_limit(source),) * 2)


def _load(source: Path) -> dict[str, Tensor]:
    """The tensors by their names in the file."""
    try:
        loaded = torch.load(source, map_location="cpu", weights_only=True, mmap=True)
    except MemoryError:
        raise
    except Exception as cause:
        # The loader raises whatever a damaged file makes its parts do, with advice that does not
        # apply here.
        raise CheckpointError(f"torch cannot load it: {shown(reason_of(cause))}") from cause
    return dict(state_dict(loaded)[0])


def _store(tensors: dict[str, Tensor], folder: Path) -> None:
    """Write one folder per component.

    Raises:
        CheckpointError: Values are not finite.
    """
    infinite = [key for key, value in tensors.items() if not is_finite(value)]
    if infinite:
        raise CheckpointError(f"it has values that are not finite: {listed(infinite)}")
    users = Counter(_storage(each) for each in tensors.values())

    for component, part in by_component(tensors).items():

        def read(name: str, part: dict[str, Tensor] = part) -> Tensor:
            value = part[name].detach()
            # A tied pair, or pieces of one flat buffer: safetensors wants memory of its own.
            return value.clone() if users[_storage(value)] > 1 else value

        (folder / component).mkdir(parents=True)
        sizes = {name: value.numel() * value.itemsize for name, value in part.items()}
        write_shards(folder / component, component, sizes, read, shard_bytes=CONVERTED_SHARD_BYTES)


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


if __name__ == "__main__":
    limit_resources(Path(sys.argv[1]))
    sys.exit(main(sys.argv[1:]))
