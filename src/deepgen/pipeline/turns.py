"""Threads that use one model take turns, and an interruption ends only the call that it is for."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import nn

# Beside the models, which may be copied and pickled; locks may not.
_locks: weakref.WeakKeyDictionary[nn.Module, threading.RLock] = weakref.WeakKeyDictionary()
_guard = threading.Lock()


@contextmanager
def turn(model: nn.Module) -> Iterator[None]:
    """Have a model to oneself in the body; a thread that has it may enter again."""
    with _guard:
        lock = _locks.setdefault(model, threading.RLock())
    with lock:
        yield


@dataclass(slots=True)
class Call:
    """One call of a pipeline."""

    thread: int = field(default_factory=threading.get_ident)
    is_interrupted: bool = False


class Calls:
    """The calls of one pipeline that run or wait for their turn."""

    def __init__(self) -> None:
        self._calls: list[Call] = []

    @contextmanager
    def enter(self) -> Iterator[Call]:
        """A new call, in progress in the body."""
        call = Call()
        self._calls.append(call)
        try:
            yield call
        finally:
            self._calls.remove(call)

    def interrupt(self) -> None:
        """End this thread's own call, from its callback; in other threads the only call there is.

        Raises:
            ValueError: Several are in progress, and none is this thread's.
        """
        calls = list(self._calls)
        own = [each for each in calls if each.thread == threading.get_ident()]
        chosen = own[-1:] or calls
        if len(chosen) > 1:
            raise ValueError(
                f"{len(chosen)} calls are in progress; to end one of them, call interrupt() in its "
                "callback_on_step_end"
            )
        for each in chosen:
            each.is_interrupted = True
