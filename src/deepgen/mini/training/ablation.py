"""Ablation of the bridge, on the mini (DeepGen paper, section 5: ablations).

``python -m deepgen.mini.training.ablation RUN`` takes stage 0 of ``deepgen train mini --output
RUN`` and trains from it, for each arm and seed, bridge and DiT together on the same samples in the
same order with the same noise. Then it compares the arms' losses on held-out samples and prints a
JSON object. An interrupted ablation resumes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deepgen.checkpoint.folder import load_folder, save_folder
from deepgen.config.codec import read_yaml
from deepgen.config.mini import MiniConfig
from deepgen.config.model import BridgeConfig
from deepgen.flow.schedule import training_sigmas
from deepgen.images.tensors import to_pixels
from deepgen.mini.training.model import BRIDGE
from deepgen.mini.training.run import Parts, join, stage_settings, train_parts
from deepgen.mini.training.samples import any_sample
from deepgen.mini.world.drawing import draw
from deepgen.model import DeepGen
from deepgen.recipes.sft import sft
from deepgen.stages.build import build
from deepgen.train.objective import FlowBatch, FlowObjective
from deepgen.train.sample_rng import SampleKey, SampleRng
from deepgen.types import Prompt

ARMS: dict[str, BridgeConfig] = {
    "SCB": BRIDGE,
    "last layer": replace(BRIDGE, kind="last"),
    "SCB, no think tokens": replace(BRIDGE, num_queries=0),
    "last layer, no think tokens": replace(BRIDGE, kind="last", num_queries=0),
}
"""The first is the published model, which the others are compared with."""

STEPS = 235
"""Steps of 128 samples each: 30,080 samples in all."""

SEEDS = (0, 1)
HELD_OUT = 1024
"""Number of held-out samples, of a split of their own."""

RESAMPLES = 2000


def train_arm(config: MiniConfig, parts: Parts, arm: str, seed: int, steps: int) -> Path:
    """Train bridge and DiT of an arm with a frozen language model, and return its model folder."""
    folder = config.output / "ablation" / f"{arm.replace(', ', '-').replace(' ', '-')}-{seed}"
    if (folder / "model" / "model_index.json").exists():
        return folder / "model"
    config, start = replace(config, seed=seed), folder / "start"
    save_folder(join(parts, config, ARMS[arm]), start, overwrite=True)
    settings = stage_settings(config, sft(), steps=steps, lr=2e-3, model=start, output=folder)
    stage = replace(settings, freeze_vlm=True, ema_decay=0.99)
    return build(stage, device=torch.device("cpu"))()


@torch.no_grad()
def held_out_losses(model: DeepGen, count: int) -> NDArray[np.float64]:
    """Loss of each of the first held-out samples, with the same noise for every model."""
    objective = FlowObjective(training_sigmas(model.schedule), SampleRng(0, "ablation"))
    losses: list[float] = []
    for first in range(0, count, 32):
        numbers = range(first, min(first + 32, count))
        batch = _batch(model, numbers)
        found = objective(model, batch, torch.Generator()).samples
        assert found is not None
        losses += found.tolist()
    return np.array(losses)


def _batch(model: DeepGen, numbers: Sequence[int]) -> FlowBatch:
    samples = [any_sample(number, split="held out") for number in numbers]
    sources = [tuple(to_pixels(draw(source)) for source in each.sources) for each in samples]
    return FlowBatch(
        latents=model.vae.encode([to_pixels(draw(each.target)) for each in samples]),
        prompts=[
            Prompt(text=each.text, references=own)
            for each, own in zip(samples, sources, strict=True)
        ],
        reference_latents=[model.vae.encode(own) for own in sources],
        keys=[SampleKey(sample=str(number)) for number in numbers],
        weights=torch.full((len(samples),), 1 / len(samples)),
    )


def mean_with_interval(values: NDArray[np.float64], seed: int = 0) -> dict[str, float]:
    """Mean over the last axis, and its 95 % interval over resampled samples."""
    rng = np.random.default_rng(seed)
    flat = values.mean(axis=0) if values.ndim > 1 else values
    draws = flat[rng.integers(len(flat), size=(RESAMPLES, len(flat)))].mean(axis=1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return {"mean": round(float(flat.mean()), 5), "low": round(low, 5), "high": round(high, 5)}


def table(losses: Mapping[str, NDArray[np.float64]]) -> dict[str, Any]:
    """Held-out loss of each arm, and of each but the first the paired difference to the first.

    Losses of an arm have one row per seed and one column per sample.
    """
    first = next(iter(losses.values()))
    return {
        arm: {
            "loss": mean_with_interval(own),
            "seeds": [round(float(each), 5) for each in own.mean(axis=1)],
            **({} if own is first else {"minus SCB": mean_with_interval(own - first)}),
        }
        for arm, own in losses.items()
    }


def main() -> None:
    """Train what is missing, measure all, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--config", type=Path, help="settings of the run, if not the defaults")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--held-out", type=int, default=HELD_OUT)
    arguments = parser.parse_args()
    config = MiniConfig() if arguments.config is None else read_yaml(arguments.config, MiniConfig())
    config = replace(config, output=arguments.run)
    parts = train_parts(config, torch.device("cpu"))
    losses = {}
    for arm in ARMS:
        models = [
            load_folder(train_arm(config, parts, arm, seed, arguments.steps), dtype=torch.float32)
            for seed in arguments.seeds
        ]
        losses[arm] = np.stack([held_out_losses(each, arguments.held_out) for each in models])
    sys.stdout.write(json.dumps({"steps": arguments.steps, "arms": table(losses)}, indent=1) + "\n")


if __name__ == "__main__":
    main()
