"""Connecting to a Ray cluster (extra ``ray``). ray is imported on use only."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from deepgen.errors import DeepGenError, UsageError
from deepgen.extras import install_line

Ray = Any
"""The module ``ray``, which has no types."""


@contextmanager
def ray_cluster(
    *, shows_logs: bool = False, environment: Mapping[str, str] | None = None
) -> Iterator[Ray]:
    """Ray, connected in the body to the cluster of ``RAY_ADDRESS``, or to one of this machine.

    A connection that exists is used and left as it is. Ray's reports of usage are off unless
    ``RAY_USAGE_STATS_ENABLED`` says otherwise.

    Args:
        shows_logs: Show what the cluster's processes print.
        environment: Variables of the cluster's processes.

    Raises:
        ImportError: It is not installed.
        DeepGenError: The body raised an error of Ray's, whose text is a traceback of many lines.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    is_ours = not ray.is_initialized()
    if is_ours:
        own = {"env_vars": dict(environment)} if environment else None
        ray.init(include_dashboard=False, log_to_driver=shows_logs, runtime_env=own)
    try:
        yield ray
    except ray.exceptions.RayError as error:
        lines = str(error).split("\n")
        raise DeepGenError(f"Ray: {type(error).__name__}: {lines[0]}") from error
    finally:
        if is_ours:
            ray.shutdown()


class Worker:
    """A worker in a process of its own; what it returns or raises comes back pickled.

    Ray Data keeps of an exception its text alone, and of a row what Arrow can say.

    Args:
        kind: Makes the worker, which is called with each row.
        arguments: Of ``kind``.
    """

    def __init__(self, kind: Callable[..., Callable[[Any], Any]], arguments: Sequence[Any]) -> None:
        self._kind, self._arguments = kind, arguments
        self._worker: Callable[[Any], Any] | None = None

    def __call__(self, row: Mapping[str, bytes]) -> dict[str, bytes]:
        """One row."""
        try:
            # Here, since an exception of a constructor has no row to come back in.
            if self._worker is None:
                self._worker = self._kind(*self._arguments)
            return {"result": pickle.dumps((self._worker(pickle.loads(row["row"])), None))}
        except Exception as error:
            return {"result": _pickled_error(error)}


def _pickled_error(error: Exception) -> bytes:
    try:
        pickled = pickle.dumps((None, error))
        pickle.loads(pickled)
    except Exception:
        text = " ".join(str(error).split())
        return pickle.dumps((None, RuntimeError(f"{type(error).__name__}: {text}")))
    return pickled


def mapped(
    rows: Sequence[Any],
    kind: Callable[..., Callable[[Any], Any]],
    arguments: Sequence[Any],
    *,
    processes: int,
    num_gpus: int | Callable[[Ray], int],
) -> Iterator[Any]:
    """What workers return for rows, as it comes.

    Args:
        rows: At least one; each is a task of its own.
        kind: As in :class:`Worker`.
        arguments: Of ``kind``.
        processes: Workers, at most.
        num_gpus: Of each worker; or a function of the connected Ray.

    Raises:
        Exception: What a worker raised.
        DeepGenError: A process or the cluster failed.
    """
    with ray_cluster(shows_logs=True) as ray:
        pickled = [{"row": pickle.dumps(row)} for row in rows]
        data = ray.data.from_items(pickled, override_num_blocks=len(rows)).map(
            Worker,
            fn_constructor_args=(kind, tuple(arguments)),
            concurrency=min(processes, len(rows)),
            num_gpus=num_gpus(ray) if callable(num_gpus) else num_gpus,
        )
        for each in data.iter_rows():
            result, error = pickle.loads(each["result"])
            if error is not None:
                raise error
            yield result


def gpus_each(ray: Ray, device: str) -> int:
    """GPUs of each process: one where the cluster has any and the device may be one."""
    return int(device in ("auto", "cuda") and ray.cluster_resources().get("GPU", 0) > 0)


def check_ray(processes: int | None) -> None:
    """Refuse a number of processes that cannot be, and Ray where it is not installed.

    Raises:
        UsageError: Either.
    """
    if processes is not None and processes < 1:
        raise UsageError(f"--ray must be at least 1, got {processes}")
    if find_spec("ray") is None:
        raise UsageError(f"ray is not installed; use {install_line('ray')}")
