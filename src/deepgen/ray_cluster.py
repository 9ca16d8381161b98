"""Connecting to a Ray cluster (extra ``ray``). ray is imported on use only."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from deepgen.errors import UsageError

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
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    is_ours = not ray.is_initialized()
    if is_ours:
        own = {"env_vars": dict(environment)} if environment else None
        ray.init(include_dashboard=False, log_to_driver=shows_logs, runtime_env=own)
    try:
        yield ray
    finally:
        if is_ours:
            ray.shutdown()


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
        raise UsageError("ray is not installed; use pip install 'deepgen-image[ray]'")
