"""Work on rows in several processes or machines; results come in the order of the rows."""

from __future__ import annotations

import pickle
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from multiprocessing import get_context
from typing import Any, ClassVar, TypeVar

from deepgen.errors import DataError
from deepgen.extras import install_line
from deepgen.ray_cluster import ray_cluster
from deepgen.threads import bounded_map

T = TypeVar("T")
R = TypeVar("R")

CHUNK_ROWS = 16
"""Rows that a process is sent together: an image takes milliseconds, a message a tenth of one."""

BLOCK_ROWS = 20_000
"""Rows that are handed to Ray at a time, at most."""

BLOCK_BYTES = 256 << 20
"""Size of pickled rows at which a block ends before that: rows of Parquet hold their images."""

BATCH_ROWS = 64


class Executor(ABC):
    """What computes a function of each item; results come with their items, in order."""

    is_local: ClassVar[bool] = False
    """Whether results stay in this process, so that they may be large."""

    @abstractmethod
    def map(self, work: Callable[[T], R], items: Iterable[T]) -> Iterator[tuple[T, R]]:
        """Each item with its result."""


@dataclass(frozen=True)
class Threads(Executor):
    """Threads of this process."""

    count: int
    is_local = True

    def map(self, work: Callable[[T], R], items: Iterable[T]) -> Iterator[tuple[T, R]]:
        """See :class:`Executor`."""
        return bounded_map(lambda item: (item, work(item)), items, workers=self.count)


@dataclass(frozen=True)
class Processes(Executor):
    """Processes of this machine; functions must be picklable, and are sent with each chunk."""

    count: int

    def map(self, work: Callable[[T], R], items: Iterable[T]) -> Iterator[tuple[T, R]]:
        """See :class:`Executor`.

        Raises:
            DataError: A process was killed, usually for want of memory.
        """
        # Not forked: threads of this process may hold locks.
        pool = ProcessPoolExecutor(self.count, mp_context=get_context("spawn"))
        sent: deque[list[T]] = deque()
        results = bounded_map(
            partial(_chunk, work), _chunks(items, sent), workers=self.count, pool=pool
        )
        try:
            with closing(results):
                for found in results:
                    yield from zip(sent.popleft(), found, strict=True)
        except BrokenProcessPool:
            raise DataError(
                "a process of the import was killed, perhaps for want of memory; the same "
                "command resumes, with fewer --workers if it happens again"
            ) from None


@dataclass(frozen=True)
class RayCluster(Executor):
    """The machines of a Ray cluster: of ``RAY_ADDRESS``, or this one; all see the same files."""

    def map(self, work: Callable[[T], R], items: Iterable[T]) -> Iterator[tuple[T, R]]:
        """See :class:`Executor`.

        Raises:
            DataError: Ray is not installed.
        """
        try:
            import ray.data
        except ImportError:
            raise DataError(f"several machines need Ray Data: {install_line('ray')}") from None
        with ray_cluster() as ray:
            context = ray.data.DataContext.get_current()
            context.execution_options.preserve_order = True
            context.enable_progress_bars = False
            sent = pickle.dumps(work)
            for block, pickled in blocks(items):
                rows = [{"row": each} for each in pickled]
                done = ray.data.from_items(rows).map_batches(
                    _batch, batch_size=BATCH_ROWS, fn_kwargs={"work": sent}
                )
                for each, found in zip(block, done.iter_rows(), strict=True):
                    yield each, pickle.loads(found["result"])


def blocks(items: Iterable[T]) -> Iterator[tuple[list[T], list[bytes]]]:
    """Items, and each of them pickled, in blocks that fit in memory."""
    block: list[T] = []
    pickled: list[bytes] = []
    size = 0
    for each in items:
        block.append(each)
        pickled.append(pickle.dumps(each))
        size += len(pickled[-1])
        if len(block) >= BLOCK_ROWS or size >= BLOCK_BYTES:
            yield block, pickled
            block, pickled, size = [], [], 0
    if block:
        yield block, pickled


def _chunks(items: Iterable[T], sent: deque[list[T]]) -> Iterator[list[T]]:
    """Items in chunks, each of which is also put into ``sent``; what came before a failure, too."""
    failure: Exception | None = None
    source = iter(items)
    while failure is None:
        chunk: list[T] = []
        try:
            chunk.extend(islice(source, CHUNK_ROWS))
        except Exception as error:
            failure = error
        if not chunk:
            break
        sent.append(chunk)
        yield chunk
    if failure is not None:
        raise failure


def _chunk(work: Callable[[T], R], chunk: list[T]) -> list[R]:
    return [work(each) for each in chunk]


def _batch(batch: dict[str, Any], work: bytes) -> dict[str, Any]:
    """What a task of Ray does: pickled rows to pickled results. Both are this program's own."""
    call = pickle.loads(work)
    return {"result": [pickle.dumps(call(pickle.loads(each))) for each in batch["row"]]}
