"""What rows say: figures beside their bounds, and figures beside their goals.

A bound that is exceeded makes a row wrong (``"ok": False``); a missed goal is only reported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpu.plan import Row

GPU_FACTOR = 10
"""Float32 on a GPU may be this much further from the reference numbers than the tests of the CPU
allow: the order of sums differs, the precision does not."""


def largest_error(actual: Any, expected: Any) -> float:
    """``max|a - b| / max|b|`` over one tensor, in float64 on the CPU; infinite if not finite."""
    mine, true = (_float64(each) for each in (actual, expected))
    if mine.shape != true.shape:
        raise ValueError(f"expected shape {tuple(true.shape)}, got {tuple(mine.shape)}")
    return _or_infinity((mine - true).abs().max() / true.abs().max())


def relative_error(actual: Any, expected: Any) -> float:
    """``|a - b| / |b|`` in the Euclidean norm, in float64 on the CPU; infinite if not finite."""
    mine, true = (_float64(each) for each in (actual, expected))
    if mine.shape != true.shape:
        raise ValueError(f"expected shape {tuple(true.shape)}, got {tuple(mine.shape)}")
    return _or_infinity((mine - true).norm() / true.norm())


def bounded(found: Mapping[str, float], bounds: Mapping[str, float], **others: Any) -> Row:
    """A row: every figure beside the bound that it must not exceed, and whether all are kept.

    Args:
        found: Figures by name.
        bounds: Under the same names.
        others: Further keys of the row.
    """
    if found.keys() != bounds.keys():
        raise ValueError(f"figures {sorted(found)} and bounds {sorted(bounds)} differ")
    ok = all(found[name] <= bounds[name] for name in found)
    figures = {
        # JSON has no infinity.
        name: {"found": float(f"{value:.4g}") if value < 1e300 else "not finite", "bound": bound}
        for (name, value), bound in zip(found.items(), bounds.values(), strict=True)
    }
    return {"ok": ok, "figures": figures, **others}


def goal(name: str, found: float, *, at_most: float = 0.0, at_least: float = 0.0) -> Row:
    """A figure beside its goal, for the list ``goals`` of a row."""
    is_met = found >= at_least if at_least else found <= at_most
    limit = {"at_least": at_least} if at_least else {"at_most": at_most}
    return {"name": name, "found": round(found, 4), **limit, "met": is_met}


def either(first: Row, second: Row) -> Row:
    """Two goals of which one is enough."""
    return {**first, "or": second, "met": first["met"] or second["met"]}


def described(row: Row, *, toy: bool = False) -> Iterator[str]:
    """The figures and goals of a row, a line each; toys have no goals."""
    for name, figure in row.get("figures", {}).items():
        yield f"{name}: {figure['found']} (bound {figure['bound']:.3g})"
    for each in () if toy else row.get("goals", ()):
        parts = [each, each["or"]] if "or" in each else [each]
        met = "met" if each["met"] else "missed"
        yield f"{' or '.join(map(_described_goal, parts))}: {met}"


def _described_goal(each: Row) -> str:
    limits = (key for key in ("at_least", "at_most") if key in each)
    limit = ", ".join(f"{key.replace('_', ' ')} {each[key]}" for key in limits)
    return f"{each['name']}: {each['found']} (goal: {limit})"


@contextmanager
def exact_float32() -> Iterator[None]:
    """Float32 products in float32, not in TF32, in the body."""
    matmul, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, convolutions.allow_tf32
    matmul.allow_tf32 = convolutions.allow_tf32 = False
    try:
        yield
    finally:
        matmul.allow_tf32, convolutions.allow_tf32 = before


def _float64(value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach().cpu().double()
    return torch.from_numpy(np.asarray(value)).double()


def _or_infinity(value: Tensor) -> float:
    return float(value) if value.isfinite() else float("inf")
