"""Stopping on a signal: it is recorded, and the run ends after the step it is in."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

if sys.platform == "win32":
    SIGNALS = (signal.SIGTERM, signal.SIGINT)
else:
    # The last is often chosen for Slurm's warning before a time limit (``--signal``).
    SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)

ANSWER = "stopping after this step; a checkpoint will be written (again: exit immediately)\n"

ECHO_SECONDS = 2.0
"""torchrun forwards signals that the terminal has sent to its processes already."""


@contextmanager
def handling_signals(note: Callable[[], None], *, answers: bool = True) -> Iterator[None]:
    """In the body, the first signal is only recorded; a later one has its usual effect.

    Python delivers signals to the main thread; in others nothing changes.

    Args:
        note: Called at the first signal, and at repetitions within ``ECHO_SECONDS``.
        answers: Whether the first is answered by a line on standard error.
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
        if not first:
            first.append(time.monotonic())
            if answers:
                # Not through Python's buffer, whose writing the signal may have interrupted.
                with suppress(OSError):
                    os.write(2, ANSWER.encode())
        note()

    for each in SIGNALS:
        signal.signal(each, take)
    try:
        yield
    finally:
        for each in SIGNALS:
            signal.signal(each, before[each])
