"""What optional libraries log while they are imported, which says nothing to users of a command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

NAMES = ("torchao", "bitsandbytes", "diffusers.quantizers", "torch.utils._pytree")
"""diffusers imports torchao and bitsandbytes wherever they are installed, used or not; these list
kernels of other processors, which they cannot load."""


def quiet_libraries() -> None:
    """Keep their warnings off standard error from here on; errors stay."""
    import logging  # Not before: the list of commands does without it.

    for name in NAMES:
        logging.getLogger(name).setLevel(logging.ERROR)


@contextmanager
def libraries_quiet() -> Iterator[None]:
    """The same in the body only."""
    import logging

    loggers = [logging.getLogger(name) for name in NAMES]
    levels = [each.level for each in loggers]
    quiet_libraries()
    try:
        yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)
