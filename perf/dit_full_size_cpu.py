"""The released DiT's size with random float32 weights on CPU: memory and time of a guided step.

``python perf/dit_full_size_cpu.py``: 512 px, 160 context tokens, each side in a process of its
own; the result is in ``perf/results/dit_full_size_cpu.json``. It needs 11 GiB. The targets are
10.5 GiB at the peak, and not to be slower than diffusers.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

import torch
from denoising import Case, our_loop, random_inputs, stock_loop, stock_transformer
from measure import environment, write

from deepgen.config.model import DiTConfig
from deepgen.dit.model import DiT

TARGET_GIB = 10.5

SIDES = ("deepgen", "diffusers")


@torch.inference_mode()
def measure_side(side: str) -> dict[str, float]:
    """Time of one guided step after another one, and the peak of this process."""
    config = DiTConfig()
    short = random_inputs(Case(steps=1), config, torch.float32, "cpu")
    if side == "deepgen":
        dit = DiT(config)
        our_loop(dit, short)
        start = time.perf_counter()
        our_loop(dit, short)
    else:
        stock = stock_transformer(config)
        stock_loop(stock, short)
        start = time.perf_counter()
        stock_loop(stock, short)
    seconds = time.perf_counter() - start
    # Linux counts in KiB.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"seconds_per_guided_step": round(seconds, 2), "peak_gib": round(peak, 2)}


def main() -> None:
    """Measure both sides, one after the other, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--side", choices=SIDES, help="measure this side only, in this process")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.side:
        print(json.dumps(measure_side(arguments.side)))
        return
    record: dict[str, Any] = {"environment": environment(), "target_peak_gib": TARGET_GIB}
    for side in SIDES:
        command = [sys.executable, __file__, "--side", side, "--threads", str(arguments.threads)]
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        record[side] = json.loads(run.stdout)
    write("dit_full_size_cpu", record)


if __name__ == "__main__":
    main()
