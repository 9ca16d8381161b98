"""Rate of stage 0 of ``deepgen train mini`` on a CPU, by parts: where the time goes.

``python perf/mini_training.py``: rendering and encoding of samples, a step of the DiT in float32,
in bfloat16, and in bfloat16 with compiled blocks (``--precision``, ``--compile``), and the
optimizer, at the sizes of the command. Sides alternate. One thread, and its CPU time, since what
else runs on the machine takes none of that: on two cores the same is done twice. Each sample is
encoded once and used in four steps; the first side is what the command was before, with float32 and
a use for each encoding. The record is ``perf/results/mini_training.json``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from measure import environment, write

from deepgen.config.mini import MiniConfig
from deepgen.mini.training.label_pretraining import LabelBatch, LabelBatches, LatentBatches
from deepgen.mini.training.model import new_autoencoder
from deepgen.mini.training.parts import (
    ADAMW_NAMES,
    LATENT_USES,
    Part,
    batch_sizes,
    label_part,
)
from deepgen.mini.training.samples import SIDE
from deepgen.train.optim import MatrixOptimizer
from deepgen.vae import LatentCodec

SIDES = {
    "float32": MiniConfig(precision="float32"),
    "float32_compiled": MiniConfig(precision="float32", compile=True),
    "bfloat16": MiniConfig(precision="bfloat16"),
    "bfloat16_compiled": MiniConfig(precision="bfloat16", compile=True),
}


def cpu_seconds(run: Callable[[], object]) -> float:
    """Time of this process's threads."""
    start = time.process_time()
    run()
    return time.process_time() - start


class Side:
    """A DiT, its optimizer and the encoder at one precision."""

    def __init__(self, config: MiniConfig, batches: list[LabelBatch]) -> None:
        codec = LatentCodec(new_autoencoder(0).to(memory_format=torch.channels_last))
        self.part: Part = label_part(codec, config, torch.device("cpu"))
        source = self.part.batches
        assert isinstance(source, LatentBatches)
        self.encoder = LatentBatches(lambda step: batches, codec, autocast=source.autocast)
        self.latents = self.encoder(0)
        model = self.part.model
        self.optimizer = MatrixOptimizer(
            model.named_parameters(), lr=1e-4, adamw_names=ADAMW_NAMES, weight_decay=0.01
        )
        self.rng = torch.Generator().manual_seed(0)

    def encode(self) -> None:
        """All images of a step."""
        self.encoder(self.encoder.block)
        self.encoder(0)

    def backward(self) -> None:
        """Forward and backward pass of a step."""
        for each in self.latents:
            self.part.objective(self.part.model, each, self.rng).total.backward()

    def update(self) -> None:
        """A step of the optimizer."""
        self.optimizer.step(lr=1e-4)
        self.optimizer.zero_grad()


def main() -> None:
    """Measure all sides in turns, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    rendered = LabelBatches(sizes=batch_sizes(MiniConfig().batch_size), side=SIDE)
    batches = rendered(0)
    count = sum(len(each.targets) for each in batches)
    # Each time others, as drawings of objects are kept.
    render = statistics.median(
        cpu_seconds(partial(rendered, step)) for step in range(1, repeats + 1)
    )

    sides: dict[str, Side] = {}
    compilation: dict[str, float] = {}
    for name, config in SIDES.items():
        sides[name] = Side(config, batches)
        start = time.perf_counter()
        sides[name].backward()
        sides[name].update()
        if config.compile:
            compilation[name] = round(time.perf_counter() - start, 1)
    found: dict[str, dict[str, list[float]]] = {
        name: {"encode": [], "forward_backward": [], "optimizer": []} for name in sides
    }
    for _ in range(repeats):
        for name, side in sides.items():
            # Two batches of one step each are encoded.
            found[name]["encode"].append(cpu_seconds(side.encode) / 2)
            found[name]["forward_backward"].append(cpu_seconds(side.backward))
            found[name]["optimizer"].append(cpu_seconds(side.update))
    rates: dict[str, Any] = {}
    for name, parts in found.items():
        for uses in (1, LATENT_USES):
            step = {part: statistics.median(each) for part, each in parts.items()}
            step["render"] = render / uses
            step["encode"] /= uses
            total = sum(step.values())
            rates[f"{name}, {uses} uses"] = {
                "samples_per_cpu_second": round(count / total, 1),
                "seconds": {part: round(each, 3) for part, each in step.items()},
            }
    baseline = rates["float32, 1 uses"]["samples_per_cpu_second"]
    for each in rates.values():
        each["of_first"] = round(each["samples_per_cpu_second"] / baseline, 2)
    write(
        "mini_training",
        {
            "environment": environment(),
            "samples": count,
            "compilation_seconds": compilation,
            "rates": rates,
        },
    )


if __name__ == "__main__":
    main()
