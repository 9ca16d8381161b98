"""Rows of ``tables`` about the denoising loop alone, against diffusers and the arithmetic floor.

All sides have the same weights and inputs, and alternate. Compiled ones are compiled block by
block, with fixed shapes, on both sides; the first call of a side includes its compilation.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import torch
from denoising import Case, Inputs, our_loop, random_inputs, stock_loop, stock_transformer
from measure import alternate, compare, synchronize

from deepgen.config.model import DiTConfig
from deepgen.dit.model import DiT
from gpu.models import new_dit, sizes_of
from gpu.plan import Context, Row
from gpu.rates import matrix_rate, peak_gib, reset_peak
from gpu.result import goal

Side = Literal[
    "deepgen_eager",
    "deepgen_compiled",
    "deepgen_graphs",
    "deepgen_recorded",
    "diffusers_eager",
    "diffusers_compiled",
    "diffusers_graphs",
]

DTYPE = torch.bfloat16
"""In rehearsals, too, so that they find what does not fit it."""

COMPARED: tuple[Side, ...] = (
    "deepgen_eager",
    "deepgen_compiled",
    "diffusers_eager",
    "diffusers_compiled",
)

GRAPHS: tuple[Side, ...] = ("deepgen_recorded", "deepgen_graphs", "diffusers_graphs")
"""All blocks as one graph, replayed as a CUDA graph (mode ``reduce-overhead``); *recorded* are
blocks compiled one by one and replayed together, which is what ``--compile`` does."""

OWN: tuple[Side, ...] = ("deepgen_eager", "deepgen_compiled")


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopRow:
    """A row: what is generated, by which sides, and with which goals."""

    case: Case
    sides: Sequence[Side] = COMPARED
    repeats: int = 5
    goals: Mapping[str, float] = field(default_factory=dict)
    """At most: ``of_diffusers_eager``, ``of_diffusers_compiled``, ``of_floor``; for the fastest of
    our sides."""

    def __call__(self, context: Context) -> Row:
        """Measure."""
        return measure_loop(self, context)


def floor_flops(case: Case, config: DiTConfig) -> float:
    """Operations of the loop's matrix products and attention.

    A multiply-add counts as 2. Per image token a block has four projections and an MLP of eight
    squares of the width, and four more projections where attention is dual; per context token the
    same, except for the last block, which has three projections in diffusers. Embedding the
    context is not counted. The count is the same for all sides, whatever work they save.
    """
    width, blocks, dual = config.width, config.num_layers, len(config.dual_attention_layers)
    image = case.height * case.width // config.patch_size**2 * (1 + case.references)
    context = case.context_tokens
    linear = (12 * blocks + 4 * dual) * image + (12 * (blocks - 1) + 3) * context
    attention = 2 * blocks * (image + context) ** 2 + 2 * dual * image**2
    # Both branches of guidance.
    return 2.0 * case.images * case.steps * 2 * (linear * width**2 + attention * width)


@torch.no_grad()
def measure_loop(row: LoopRow, context: Context) -> Row:
    """Time all sides of a row."""
    case, repeats = row.case, row.repeats
    if context.toy:
        small = {"steps": 2, "height": 8, "width": 8, "context_tokens": 9}
        case = replace(case, images=min(case.images, 2), **small)
        repeats = 1
    config = sizes_of(context).dit
    loops = _loops(row.sides, case, context, DTYPE)
    first, peaks, failed = _first_calls(loops, context)
    loops = {side: loop for side, loop in loops.items() if side in first}
    times = compare(alternate(loops, repeats), next(iter(loops)))
    medians: dict[str, float] = times["median_seconds"]
    # After the sides, when the card is as warm as it was for them.
    rate = matrix_rate(context)
    floor = floor_flops(case, config) / rate
    ratios = _ratios(medians, floor)
    return {
        "images": case.images,
        "pixels": [8 * case.height, 8 * case.width],
        "references": case.references,
        "context_tokens": case.context_tokens,
        "steps": case.steps,
        "dtype": str(DTYPE).removeprefix("torch."),
        "median_seconds": medians,
        "seconds": times["seconds"],
        "first_call_seconds": first,
        "failed_sides": failed,
        "peak_gib": peaks,
        "matrix_flops_per_second": rate,
        "floor_seconds": round(floor, 4),
        **ratios,
        "goals": _goals(row.goals, ratios),
    }


def _first_calls(
    loops: Mapping[str, Callable[[], object]], context: Context
) -> tuple[dict[str, float], dict[str, float | None], dict[str, str]]:
    """Seconds and memory of the first call of each side, and the errors of those that have one.

    A machine without a C compiler can compile nothing; the other sides are measured all the same.
    """
    first: dict[str, float] = {}
    peaks: dict[str, float | None] = {}
    failed: dict[str, str] = {}
    errors: list[Exception] = []
    for side, loop in loops.items():
        reset_peak(context)
        synchronize()
        started = time.perf_counter()
        try:
            loop()
            synchronize()
        except Exception as error:
            lines = str(error).strip().splitlines()
            failed[side] = f"{type(error).__name__}: {lines[0] if lines else ''}"
            errors.append(error)
            continue
        first[side] = round(time.perf_counter() - started, 2)
        peaks[side] = peak_gib(context)
    if not first:
        raise errors[0]
    return first, peaks, failed


def _ratios(medians: Mapping[str, float], floor: float) -> dict[str, dict[str, float]]:
    """Our sides relative to each of diffusers', and all sides relative to the floor."""
    found = {"of_floor": {side: round(each / floor, 3) for side, each in medians.items()}}
    for baseline in (side for side in medians if side.startswith("diffusers")):
        found[f"of_{baseline}"] = {
            side: round(each / medians[baseline], 4)
            for side, each in medians.items()
            if side.startswith("deepgen")
        }
    return found


def _goals(goals: Mapping[str, float], ratios: Mapping[str, Mapping[str, float]]) -> list[Row]:
    found = []
    for name, limit in goals.items():
        # Its baseline may have failed.
        own = {
            side: each for side, each in ratios.get(name, {}).items() if side.startswith("deepgen")
        }
        if not own:
            continue
        best = min(own, key=lambda side: own[side])
        found.append(goal(f"{best} {name}", own[best], at_most=limit))
    return found


def _loops(
    sides: Sequence[Side], case: Case, context: Context, dtype: torch.dtype
) -> dict[str, Callable[[], object]]:
    """The loops of some sides, over one set of weights."""
    config = sizes_of(context).dit
    inputs = random_inputs(case, config, dtype, str(context.device))
    weights = new_dit(config, context.device, dtype).state_dict()
    return {side: _loop(side, config, weights, inputs, context) for side in sides}


def _loop(
    side: Side, config: DiTConfig, weights: Mapping[str, Any], inputs: Inputs, context: Context
) -> Callable[[], object]:
    whose, _, how = side.partition("_")
    with torch.device("meta"):
        network: Any = DiT(config) if whose == "deepgen" else stock_transformer(config)
    network.load_state_dict(weights, assign=True)
    network.requires_grad_(False)
    if context.toy:
        # Rehearsed by the plan verify; here it would take most of the time.
        how = "eager"
    if how == "compiled" and whose == "deepgen":
        network.compile_each_block(dynamic=False)
    elif how == "compiled":
        for block in network.transformer_blocks:
            block.compile(dynamic=False)
    if how == "recorded":
        network.compile_for_sampling(graphs=context.device.type == "cuda")
    if how == "graphs":
        if whose == "deepgen":
            network.compile_blocks(mode="reduce-overhead", dynamic=False)
        else:
            network = torch.compile(network, mode="reduce-overhead", dynamic=False)
    return partial(our_loop if whose == "deepgen" else stock_loop, network, inputs)
