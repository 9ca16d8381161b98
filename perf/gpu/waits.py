"""Where the host waits for the GPU: it then cannot give it work ahead, and the GPU idles."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

import deepgen

PACKAGE = str(Path(deepgen.__file__).parent)


@contextmanager
def counted_waits(device: torch.device, where: dict[str, int]) -> Iterator[None]:
    """Count the body's waits by the line of this package that caused them.

    Args:
        device: On a CPU nothing waits, and nothing is counted.
        where: Receives ``file:line`` and how often.
    """
    if device.type != "cuda":
        yield
        return

    def note(message: Any, *others: Any, **options: Any) -> None:
        # Not torch's remark on this mode itself, which also speaks of synchronizing.
        if "called a synchronizing" in str(message):
            line = _own_line()
            where[line] = where.get(line, 0) + 1

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")


def _own_line() -> str:
    """The innermost line of the package in the stack, else the innermost of all."""
    frames = [frame for frame in traceback.extract_stack() if frame.filename != __file__]
    own = [frame for frame in frames if frame.filename.startswith(PACKAGE)] or frames
    last = own[-1]
    return f"{last.filename.removeprefix(PACKAGE).lstrip('/')}:{last.lineno}"
