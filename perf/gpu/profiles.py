"""Rows of ``tables`` about where the time goes, by kind of kernel."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from denoising import Case, our_loop, random_inputs
from measure import synchronize
from torch.profiler import ProfilerActivity, profile

from gpu.loop import DTYPE
from gpu.models import new_dit, sizes_of
from gpu.plan import Context, Row
from gpu.training import TrainingRow, new_trainer

KINDS = (
    ("attention", ("flash", "fmha", "attention", "sdpa")),
    ("convolution", ("convol", "conv2d", "conv3d", "cudnn", "implicit", "wgrad", "dgrad")),
    ("matrix products", ("gemm", "cutlass", "cublas", "nvjet", "xmma", "addmm", "::mm", "linear")),
    ("optimizer", ("adam", "multi_tensor", "foreach", "lerp")),
    ("norms", ("norm", "triton_per", "triton_red")),
    ("reductions", ("reduce", "::sum", "::mean")),
    ("copies", ("copy", "memcpy", "memset", "catarray", "::cat", "cast", "fill")),
    ("elementwise", ("elementwise", "triton_poi", "gelu", "silu", "addcmul", "mul", "add")),
)
"""Kinds of kernels and parts of their names, the first that fits; compiled ones are named by what
was fused into them, of which the last is a guess."""

OTHER = "other"

LARGEST = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopProfile:
    """A row: some steps of the denoising loop."""

    case: Case

    def __call__(self, context: Context) -> Row:
        """Measure."""
        config = sizes_of(context).dit
        case = Case(steps=2, height=8, width=8, context_tokens=9) if context.toy else self.case
        with torch.no_grad():
            dit = new_dit(config, context.device, DTYPE)
            inputs = random_inputs(case, config, DTYPE, str(context.device))
            return profiled(partial(our_loop, dit, inputs), context, "loop")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingProfile:
    """A row: a training step."""

    row: TrainingRow

    def __call__(self, context: Context) -> Row:
        """Measure, with activation checkpointing: a profile needs memory, too."""
        trainer = new_trainer(self.row, context, checkpointing=True)
        return profiled(trainer.step, context, self.row.stage)


def profiled(run: Callable[[], object], context: Context, name: str) -> Row:
    """Shares of the GPU's time by kind and by kernel, also as a text file, and its idle share."""
    run()
    synchronize()
    started = time.perf_counter()
    run()
    synchronize()
    unprofiled = time.perf_counter() - started
    on_gpu = context.device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as traced:
        run()
        synchronize()
    kernels = _kernels(traced, on_gpu=on_gpu)
    busy = sum(kernels.values())
    if not busy:
        raise ValueError("the profiler recorded no kernels; it may not be allowed on this machine")
    kinds: dict[str, float] = {}
    for kernel, seconds in kernels.items():
        kinds[kind_of(kernel)] = kinds.get(kind_of(kernel), 0.0) + seconds
    path = context.folder / f"profile_{name}.txt"
    path.write_text("\n".join(_table(kinds, kernels, busy, unprofiled)) + "\n")
    return {
        "seconds_without_profiler": round(unprofiled, 4),
        "busy_seconds": round(busy, 4),
        # The profiler slows the host down, not the kernels.
        "idle_fraction": round(max(0.0, 1 - busy / unprofiled), 4),
        "share_of_busy_time": {
            kind: round(seconds / busy, 4)
            for kind, seconds in sorted(kinds.items(), key=lambda each: -each[1])
        },
        "table": path.name,
    }


def kind_of(kernel: str) -> str:
    """The kind of a kernel, by its name.

    >>> kind_of("void pytorch_flash::flash_fwd_kernel<...>")
    'attention'
    """
    name = kernel.lower()
    return next((kind for kind, parts in KINDS if any(p in name for p in parts)), OTHER)


def _kernels(traced: Any, *, on_gpu: bool) -> dict[str, float]:
    """Seconds of each kernel on a GPU, of each operator without its children on a CPU."""
    found: dict[str, float] = {}
    for event in traced.key_averages():
        is_kernel = event.device_type.name == "CUDA"
        # Annotations (of optimizers, say) cover kernels that are counted by themselves.
        if is_kernel != on_gpu or (on_gpu and getattr(event, "is_user_annotation", False)):
            continue
        time_us = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        if time_us:
            found[event.key] = found.get(event.key, 0.0) + time_us / 1e6
    return found


def _table(
    kinds: dict[str, float], kernels: dict[str, float], busy: float, wall: float
) -> list[str]:
    def lines(times: dict[str, float]) -> list[str]:
        ordered = sorted(times.items(), key=lambda each: -each[1])
        return [
            f"{100 * each / busy:6.1f} %  {1e3 * each:10.3f} ms  {name}" for name, each in ordered
        ]

    return [
        f"{1e3 * wall:.1f} ms, of which the device computes {1e3 * busy:.1f} ms",
        "",
        "by kind",
        *lines(kinds),
        "",
        "by kernel",
        *(each[:160] for each in lines(kernels)[:LARGEST]),
    ]
