"""The process that reads a pickle: ``python -m deepgen.checkpoint.unpickling SOURCE FOLDER``.

Its last line on standard error says what was wrong. See :mod:`deepgen.checkpoint.pickles`.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deepgen.checkpoint.files import listed
from deepgen.checkpoint.native import split_key
from deepgen.checkpoint.pickles import CONVERTED_SHARD_BYTES, DTYPES, SPARE_BYTES, state_dict
from deepgen.checkpoint.weights import is_finite
from deepgen.checkpoint.writing import write_weights
from deepgen.errors import CheckpointError


def main(arguments: list[str]) -> int:
    """Read, check and store; the exit code."""
    source, folder = map(Path, arguments)
    try:
        components = _components(_load(source))
        for component, tensors in components.items():
            (folder / component).mkdir(parents=True)
            write_weights(
                folder / component, component, tensors, None, shard_bytes=CONVERTED_SHARD_BYTES
            )
    except (CheckpointError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except MemoryError:
        sys.stderr.write("it needs more memory than its size allows for\n")
        return 2
    return 0


def limit_memory(source: Path) -> None:
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


def _load(source: Path) -> Any:
    try:
        return torch.load(source, map_location="cpu", weights_only=True, mmap=True)
    except MemoryError:
        raise
    except Exception as cause:
        # The loader raises whatever a damaged file makes its parts do.
        line = next(iter(str(cause).strip().splitlines()), type(cause).__name__)
        raise CheckpointError(f"it is damaged: {line}") from cause


def _components(loaded: Any) -> dict[str, dict[str, Tensor]]:
    """Tensors by component and name, without wrappers."""
    tensors = state_dict(loaded)
    unusable = [str(key) for key, value in tensors.items() if not _is_whole(value)]
    if unusable:
        raise CheckpointError(
            f"it has {len(unusable)} entries that are not whole tensors of {', '.join(DTYPES)}: "
            f"{listed(unusable)}"
        )
    components: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for key, value in tensors.items():
        component, name = split_key(key)
        if name in components[component]:
            raise CheckpointError(f"it has {name!r} twice, under different wrappers")
        components[component][name] = value.detach()
    infinite = [key for key, value in tensors.items() if not is_finite(value)]
    if infinite:
        raise CheckpointError(f"it has values that are not finite: {listed(infinite)}")
    return dict(components)


def _is_whole(value: Any) -> bool:
    """Whether this is a dense tensor that fills the bytes it claims."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and str(value.dtype).removeprefix("torch.") in DTYPES
        and value.is_contiguous()
        and value.numel() * value.itemsize <= value.untyped_storage().nbytes()
    )


if __name__ == "__main__":
    limit_memory(Path(sys.argv[1]))
    sys.exit(main(sys.argv[1:]))
