"""Out-of-memory errors as one line with a hint of which settings need less."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from deepgen.errors import TrainingError

OF_THE_CPU = "DefaultCPUAllocator"
"""Named in torch's errors about CPU memory, which have no class of their own."""

AMOUNT = re.compile(r"tried to allocate ([\d.]+ ?\w+)", re.IGNORECASE)


@contextmanager
def oom_hint() -> Iterator[None]:
    """A context manager around a step, or its decorator.

    Raises:
        TrainingError: It needs more memory than there is.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as cause:
        if isinstance(cause, RuntimeError) and not (
            isinstance(cause, torch.OutOfMemoryError) or OF_THE_CPU in str(cause)
        ):
            raise
        amount = AMOUNT.search(str(cause))
        asked = f" (it asked for another {amount[1]})" if amount else ""
        raise TrainingError(
            f"a step needs more memory than there is{asked}; --checkpoint-activations needs less, "
            "and so does a smaller --microbatch-size with more micro-batches, or packing where it "
            "is off. Saved checkpoints are complete"
        ) from cause
