"""Our denoising loop against diffusers' SD3 transformer on CPU.

``python perf/dit_loop.py``: width 1536, four blocks of which two dual, 512 px, 160 context tokens,
guidance, 20 steps, the same weights and threads on both sides; the result is in
``perf/results/dit_loop.json``. The targets are 0.95 of diffusers' time, for text-to-image and for
an edit with one reference, which diffusers is given as so many more tokens. It takes an hour on two
cores; ``--steps 2 --repeats 3`` is a quick look.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import torch
from denoising import Case, our_loop, random_inputs, stock_loop, stock_transformer
from measure import alternate, compare, environment, write

from deepgen.config.model import DiTConfig
from deepgen.dit.model import DiT

CONFIG = DiTConfig(num_layers=4, dual_attention_layers=(0, 1))

TARGET = 0.95


@torch.inference_mode()
def main() -> None:
    """Measure both cases and write the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    record: dict[str, Any] = {
        "environment": environment(),
        "steps": arguments.steps,
        "target": TARGET,
    }

    torch.manual_seed(0)
    dit, stock = DiT(CONFIG), stock_transformer(CONFIG)
    stock.load_state_dict(dit.state_dict())
    for name, references in (("text_to_image", 0), ("edit_one_reference", 1)):
        short, whole = (
            random_inputs(Case(steps=steps, references=references), CONFIG, torch.float32, "cpu")
            for steps in (1, arguments.steps)
        )
        mine, true = our_loop(dit, short), stock_loop(stock, short)
        sides = {
            "deepgen": partial(our_loop, dit, whole),
            "diffusers": partial(stock_loop, stock, whole),
        }
        record[name] = compare(alternate(sides, arguments.repeats), "diffusers")
        if not references:
            record["largest_relative_difference"] = float(
                (mine - true).abs().max() / true.abs().max()
            )
    write("dit_loop", record)


if __name__ == "__main__":
    main()
