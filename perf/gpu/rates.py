"""What a device gives at most, measured beside what is compared with it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from measure import synchronize

from gpu.plan import Context

MATRIX_SIDE = 8192


def matrix_rate(context: Context) -> float:
    """Operations per second of dense bfloat16 products of random matrices.

    The median of ten after three. Floors and shares are relative to it, so that ratios hold on any
    card, and at whatever clock it runs.
    """
    side = 64 if context.toy else MATRIX_SIDE
    left, right = (
        torch.randn(side, side, device=context.device, dtype=torch.bfloat16) for _ in range(2)
    )
    return 2 * side**3 / median_seconds(lambda: left @ right)


def copy_rate(context: Context) -> float:
    """Bytes per second of a copy within the device's memory, read and written ones together."""
    count = 2**10 if context.toy else 2**30
    source = torch.randint(256, (count,), device=context.device, dtype=torch.uint8)
    target = torch.empty_like(source)
    return 2 * count / median_seconds(lambda: target.copy_(source))


def median_seconds(run: Callable[[], object], repeats: int = 10, warmup: int = 3) -> float:
    """The median time of a call."""
    return statistics.median(all_seconds(run, repeats, warmup))


def all_seconds(run: Callable[[], object], repeats: int, warmup: int = 0) -> list[float]:
    """The times of calls, each waited for."""
    seconds = []
    for _ in range(warmup + repeats):
        synchronize()
        started = time.perf_counter()
        run()
        synchronize()
        seconds.append(time.perf_counter() - started)
    return seconds[warmup:]


def peak_gib(context: Context) -> float | None:
    """Most GPU memory since :func:`reset_peak`; None on a CPU."""
    if context.device.type != "cuda":
        return None
    return round(torch.cuda.max_memory_allocated(context.device) / 2**30, 2)


def reset_peak(context: Context) -> None:
    """Count the most GPU memory from here on."""
    if context.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(context.device)
