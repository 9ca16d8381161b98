"""Signals that ask a command to end, answered by a line and an exit code from its first moment.

While modules are imported and arguments parsed, nothing has been written, and the process exits at
once: an exception may be lost in the middle of an import. A command that runs gets an exception
instead, so that unfinished files are removed. The loop of a training has handlers of its own.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM

STOPPED = 75
"""EX_TEMPFAIL; batch systems start such a job again."""

RESUMES = "terminated; the same command resumes"
"""What a training says that was asked to end outside of its loop."""

Handler = Callable[[int, FrameType | None], Any]


class TerminatedError(BaseException):
    """A signal that asks for an end, so that unfinished files are removed on the way out."""


def is_training(arguments: Sequence[str]) -> bool:
    """Whether a command line trains: batch systems start that again, see ``STOPPED``."""
    return list(arguments[:1]) == ["train"]


def exit_at_signals(arguments: Sequence[str], code: int | None = None) -> None:
    """From now on, exit at once.

    Args:
        arguments: Of the command line.
        code: Exit code of a command that has ended, and said how; None if it is not that far.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        if code is not None:
            os._exit(code)
        line, found = "error: terminated", TERMINATED
        if number == signal.SIGINT:
            line, found = "error: interrupted", INTERRUPTED
        elif is_training(arguments):
            line, found = RESUMES, STOPPED
        # Not through Python's buffers, which the signal may have interrupted.
        with suppress(OSError):
            os.write(2, f"{line}\n".encode())
        os._exit(found)

    for number in [signal.SIGINT, *_ending(arguments)]:
        _replace(number, leave)


@contextmanager
def raise_at_signals(arguments: Sequence[str]) -> Iterator[None]:
    """In the body, raise; where nobody handles or ignores (as nohup does) the signals.

    Raises:
        TerminatedError: There was one.
        KeyboardInterrupt: It was Ctrl-C.
    """
    _received.clear()

    def end(number: int, frame: FrameType | None) -> None:
        _received.append(number)
        raise TerminatedError

    before = [(number, _replace(number, end)) for number in _ending(arguments)]
    before.append((signal.SIGINT, _replace(signal.SIGINT, signal.default_int_handler)))
    try:
        yield
    finally:
        for number, handler in before:
            if handler is not None:
                signal.signal(number, handler)


_received: list[int] = []


def raise_if_received() -> None:
    """Raise again what was lost, in a callback of a library for example.

    Raises:
        TerminatedError: There was a signal.
    """
    if _received:
        raise TerminatedError


def _ending(arguments: Sequence[str]) -> list[signal.Signals]:
    names = ["SIGTERM", "SIGHUP", *(["SIGUSR1"] if is_training(arguments) else [])]
    return [signal.Signals[name] for name in names if hasattr(signal, name)]


def _replace(number: signal.Signals, handler: Handler) -> Any:
    """Set a handler in place of the system's or our own; returns that, or None if nothing is set.

    Only the main thread may.
    """
    before = signal.getsignal(number)
    ours = getattr(before, "__module__", None) == __name__
    if not ours and before not in (signal.SIG_DFL, signal.default_int_handler):
        return None
    try:
        return signal.signal(number, handler)
    except ValueError:
        return None
