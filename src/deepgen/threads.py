"""A bounded map over threads or processes: few items in memory, failures that surface at once."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 4
"""Items submitted per worker: one that is slow leaves no other worker idle."""


def bounded_map(
    work: Callable[[T], R],
    items: Iterable[T],
    *,
    workers: int,
    in_order: bool = True,
    pool: Executor | None = None,
) -> Generator[R, None, None]:
    """Call ``work`` on every item from several threads; items are taken only as needed.

    One worker without a pool means no threads at all. Whoever stops iterating waits for nothing:
    calls that have not begun are cancelled.

    Args:
        work: Safe to call from several threads.
        items: Taken in the calling thread, at most ``AHEAD * workers`` beyond what was yielded.
        workers: Calls at a time.
        in_order: Yield results in the order of the items, or else as they become ready.
        pool: What calls ``work``, such as a pool of processes, which is shut down in the end; None
            is a pool of threads.

    Raises:
        Exception: What ``work`` raised; or what ``items`` raised, after the results of all items
            before.
    """
    if workers == 1 and pool is None:
        yield from map(work, items)
        return
    pool = pool or ThreadPoolExecutor(workers)
    pending: list[Future[R]] = []
    failure: Exception | None = None
    source = iter(items)
    more = True
    try:
        while True:
            while more and len(pending) < AHEAD * workers:
                try:
                    pending.append(pool.submit(work, next(source)))
                except StopIteration:
                    more = False
                except Exception as error:
                    more, failure = False, error
            if not pending:
                break
            ready = pending[0]
            if not in_order:
                ready = next(iter(wait(pending, return_when=FIRST_COMPLETED).done))
            pending.remove(ready)
            yield ready.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    if failure is not None:
        raise failure
