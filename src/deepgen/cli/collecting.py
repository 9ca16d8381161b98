"""Python's garbage collector, kept out of the way of imports."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """Import without garbage collection, and never look at what was imported again.

    Imports of torch, transformers and diffusers make millions of objects that live to the end. The
    collector would search them again and again for garbage, which is a fifth of the time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
