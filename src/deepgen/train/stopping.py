"""Being asked to stop: a signal is noted, and the run leaves at the end of an update."""

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
    # The last is what Slurm's users like to be warned with (``--signal``).
    SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)

ANSWER = "stopping after this update; a checkpoint will be written (again: end at once)\n"

ECHO_SECONDS = 2.0
"""torchrun passes on what the terminal has sent to its processes already."""


@contextmanager
def noting_signals(note: Callable[[], None], *, answers: bool = True) -> Iterator[None]:
    """Inside, the first signal is only noted; one that is no echo of it acts as it did before.

    Only the main thread hears signals; in others nothing changes.

    Args:
        note: Called with the first signal, and with its echoes.
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
                # Past Python's buffer, which the signal may have come in the middle of.
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
