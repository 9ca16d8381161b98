"""The DiT's denoising loop on a GPU, against diffusers and against the lower bound by FLOPs.

``python perf/gpu_table.py``: the released size with random bfloat16 weights, 512 px, guidance 4,
50 steps; the result is in ``perf/results/gpu_table.json``. ``--dry-run`` runs at toy size
on a CPU and writes nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from denoising import Case, Inputs, our_loop, random_inputs, stock_loop, stock_transformer
from measure import alternate, compare, environment, write

from deepgen.config.model import DiTConfig
from deepgen.dit.model import DiT

# Measured rate of dense bfloat16 matrix products on an H200; the lower bounds are relative to it.
FLOPS_PER_SECOND = 790e12

TOY = DiTConfig(
    sample_size=32,
    num_layers=3,
    num_attention_heads=2,
    attention_head_dim=16,
    joint_attention_dim=40,
    caption_projection_dim=32,
    pooled_projection_dim=24,
    pos_embed_max_size=64,
    dual_attention_layers=(0, 1),
)

CASES = {
    "batch_1": Case(steps=50),
    "batch_8": Case(steps=50, images=8),
    "edit_one_reference": Case(steps=50, references=1, context_tokens=448),
}


def floor_seconds(case: Case, config: DiTConfig) -> float:
    """Time of the loop's matrix products alone at the measured dense rate.

    A multiply-add counts as 2 FLOPs. Per image token a block has four projections and an MLP of
    eight squares of the width, and four more projections where attention is dual; per context token
    the same, except for the last block, which has three projections in diffusers. Embedding the
    context is not counted. The bound is the same for all sides, whatever work they save.
    """
    width, blocks, dual = config.width, config.num_layers, len(config.dual_attention_layers)
    image = case.height * case.width // config.patch_size**2 * (1 + case.references)
    context = case.context_tokens
    linear = (12 * blocks + 4 * dual) * image + (12 * (blocks - 1) + 3) * context
    attention = 2 * blocks * (image + context) ** 2 + 2 * dual * image**2
    flops = 2 * (linear * width**2 + attention * width)
    return 2 * case.images * case.steps * flops / FLOPS_PER_SECOND


def sides(
    dit: DiT, compiled: DiT, stock: Any, stock_compiled: Any, inputs: Inputs
) -> dict[str, Callable[[], object]]:
    """The four loops of one case."""
    return {
        "deepgen_eager": partial(our_loop, dit, inputs),
        "deepgen_compiled": partial(our_loop, compiled, inputs),
        "diffusers_eager": partial(stock_loop, stock, inputs),
        "diffusers_compiled": partial(stock_loop, stock_compiled, inputs),
    }


@torch.inference_mode()
def main() -> None:
    """Measure all cases and write the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--mode", default="default", help="of torch.compile, on both sides")
    arguments = parser.parse_args()
    device, dtype, config = "cuda", torch.bfloat16, DiTConfig()
    if arguments.dry_run:
        device, dtype, config = "cpu", torch.float32, TOY
    options = {"backend": "eager"} if arguments.dry_run else {"mode": arguments.mode}

    torch.manual_seed(0)
    with torch.device(device):
        dit = DiT(config).to(dtype)
    # One set of weights for all.
    with torch.device("meta"):
        compiled, stock = DiT(config), stock_transformer(config)
    for other in (compiled, stock):
        other.load_state_dict(dit.state_dict(), assign=True)
    compiled.compile_blocks(**options)
    stock_compiled = torch.compile(stock, **options)

    record: dict[str, Any] = {"environment": environment(), "compile_mode": arguments.mode}
    for name, case in CASES.items():
        if arguments.dry_run:
            case = dataclasses.replace(case, steps=2, height=8, width=8, context_tokens=9)
        inputs = random_inputs(case, config, dtype, device)
        loops = sides(dit, compiled, stock, stock_compiled, inputs)
        for loop in loops.values():
            loop()
        record[name] = compare(alternate(loops, arguments.repeats), "diffusers_eager")
        floor = floor_seconds(case, config)
        record[name]["floor_seconds"] = floor
        record[name]["of_floor"] = {
            side: round(median / floor, 3)
            for side, median in record[name]["median_seconds"].items()
        }
        if device == "cuda":
            record[name]["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    if arguments.dry_run:
        print(json.dumps(record, indent=2))
    else:
        write("gpu_table", record)


if __name__ == "__main__":
    main()
