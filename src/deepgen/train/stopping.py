"""Being asked to stop: a signal is noted, and the run leaves at the end of an update."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)

ECHO_SECONDS = 2.0
"""torchrun passes on what the terminal has sent to its processes already."""


@contextmanager
def noting_signals(note: Callable[[], None]) -> Iterator[None]:
    """Inside, the first signal is only noted; one that is no echo of it acts as it did before.

    Only the main thread hears signals; in others nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {each: signal.getsignal(each) for each in SIGNALS}
    first: list[float] = []

    def take(number: int, frame: FrameType | None) -> None:
        if first and time.monotonic() - first[0] > ECHO_SECONDS:
            signal.signal(number, before[number])
            signal.raise_signal(number)
            return
        first[:] = first or [time.monotonic()]
        note()

    for each in SIGNALS:
        signal.signal(each, take)
    try:
        yield
    finally:
        for each in SIGNALS:
            signal.signal(each, before[each])
