"""Does reinforcement learning raise the scene reward of the embedded model on unseen prompts?

``python perf/rl_mini.py --seeds 0 1 --iterations 150`` trains the embedded model with the recipe
``rl`` on prompts of the mini's world, most of which it was never trained for, and compares it with
itself before: the same held-out prompts and noise, sampled by the ODE without guidance, scored by
the reader of the reward and by the other one, that of MiniBench. Intervals are 95 % bootstraps over
prompts. The record is ``perf/results/rl_mini.json``, with the curve of every run.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from measure import environment, write
from PIL import Image

from deepgen.checkpoint.folder import load_folder
from deepgen.checkpoint.hub import resolve
from deepgen.config.rl import Estimator, Objective, RolloutConfig
from deepgen.flow.schedule import sampling_sigmas
from deepgen.images.tensors import to_image
from deepgen.mini.reader.scenes import load_scene_reader
from deepgen.mini.world.request import SceneRequest
from deepgen.mini.world.scene import BACKGROUNDS
from deepgen.model import DeepGen
from deepgen.pipeline.denoising import advance, begin
from deepgen.recipes.rl import rl
from deepgen.rl.prompt_building import mini_prompt
from deepgen.rl.prompts import Prompt, write_prompts
from deepgen.rl.rewards.registry import create_reward
from deepgen.rl.rewards.scene import fulfilled
from deepgen.stages.reinforcement import build_rl
from deepgen.types import Prompt as VlmPrompt

HELD_OUT = 1_000_000
"""Index of the first held-out prompt; training begins at 0."""
AT_ONCE = 32
SAMPLES = 2000


def prompts_from(start: int, count: int) -> list[Prompt]:
    """Prompts of the mini's world without words, which no OCR is needed for."""
    found: list[Prompt] = []
    index = start
    while len(found) < count:
        prompt = mini_prompt(index)
        found += [prompt] if prompt.category == "general" else []
        index += 1
    return found


@torch.no_grad()
def drawn(model: DeepGen, prompts: Sequence[Prompt], steps: int) -> list[Image.Image]:
    """An image of every prompt, always from the same noise."""
    sigmas = sampling_sigmas(steps, model.schedule, tokens=16)
    images = []
    for first in range(0, len(prompts), AT_ONCE):
        some = prompts[first : first + AT_ONCE]
        texts = [VlmPrompt(text=each.prompt) for each in some]
        conditions, _ = model.conditioner.encode(texts, [], padding="none", guided=False)
        rngs = [torch.Generator().manual_seed(first + place) for place in range(len(some))]
        noise = [torch.randn(16, 8, 8, generator=rng) for rng in rngs]
        empty: list[list[Any]] = [[] for _ in some]
        denoising = begin(model.dit, noise, conditions, [], empty, sigmas, 1.0)
        while not denoising.is_done:
            advance(model.dit, [denoising])
        images += [to_image(each) for each in model.vae.decode(denoising.latents)]
    return images


def scores(model: DeepGen, prompts: Sequence[Prompt], steps: int) -> dict[str, np.ndarray]:
    """Of every prompt, by both readers."""
    model.eval()
    images = drawn(model, prompts, steps)
    reward = create_reward("scene")
    items = [each.item(image) for each, image in zip(prompts, images, strict=True)]
    other = load_scene_reader(BACKGROUNDS)
    return {
        "reward": np.array([each.value for each in reward.scorer.score(items)]),
        "other reader": np.array(
            [
                fulfilled(SceneRequest.from_json(each.details["scene"]), other.read(image))
                for each, image in zip(prompts, images, strict=True)
            ]
        ),
    }


def compared(before: np.ndarray, after: np.ndarray) -> dict[str, float | list[float]]:
    """Means, and the paired change with its interval."""
    change = after - before
    rng = np.random.default_rng(0)
    means = change[rng.integers(len(change), size=(SAMPLES, len(change)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return {
        "before": round(float(before.mean()), 4),
        "after": round(float(after.mean()), 4),
        "change": round(float(change.mean()), 4),
        "interval": [round(float(low), 4), round(float(high), 4)],
    }


def main() -> None:
    """Train, compare, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--iterations", type=int, default=150)
    parser.add_argument("--prompts", type=int, default=4, help="per iteration")
    parser.add_argument("--held-out", type=int, default=400)
    parser.add_argument("--steps", type=int, default=6, help="of a rollout")
    parser.add_argument("--window", type=int, default=2)
    parser.add_argument("--lr", type=float, default=3e-5)
    parser.add_argument("--objective", choices=("grpo", "nft"), default="grpo")
    parser.add_argument("--estimator", choices=("gdpo", "grpo"), default="gdpo")
    parser.add_argument("--name", default="rl_mini")
    arguments = parser.parse_args()
    held_out = prompts_from(HELD_OUT, arguments.held_out)
    base = load_folder(resolve("mini"))
    before = scores(base, held_out, 20)
    objective: Objective = arguments.objective
    estimator: Estimator = arguments.estimator
    runs = {}
    for seed in arguments.seeds:
        with TemporaryDirectory() as folder:
            path = Path(folder, "train.jsonl")
            write_prompts(path, prompts_from(0, 1000))
            preset = rl()
            rollout = RolloutConfig(
                prompts=arguments.prompts, steps=arguments.steps, window=arguments.window
            )
            config = replace(
                preset,
                output=Path(folder, "run"),
                seed=seed,
                steps=arguments.iterations,
                microbatch_size=32,
                t2i_microbatches=0,
                edit_microbatches=0,
                optimizer=replace(preset.optimizer, lr=arguments.lr, warmup_ratio=0.05),
                rl=replace(
                    preset.rl,
                    prompts=(path,),
                    rewards={"scene": {}},
                    weights={"general": {"scene": 1.0}},
                    rollout=rollout,
                    policy=replace(preset.rl.policy, sft_weight=0.0, objective=objective),
                    advantages=replace(preset.rl.advantages, estimator=estimator),
                ),
            )
            began = time.perf_counter()
            run = build_rl(config, device=torch.device("cpu"))
            run()
            seconds = time.perf_counter() - began
            log = Path(folder, "run", "metrics.jsonl").read_text().splitlines()
            lines = [json.loads(line) for line in log]
        after = scores(run.model, held_out, 20)
        runs[str(seed)] = {
            "seconds": round(seconds),
            **{name: compared(before[name], after[name]) for name in before},
            "curve": {
                name: [round(line[name], 5) for line in lines if name in line]
                for name in ("reward/scene", "flat/scene", "velocity_distance", "diversity")
            },
            "time": lines[-1]["speed"]["time"],
        }
        print(seed, {name: runs[str(seed)][name] for name in before}, flush=True)
    settings = {name: value for name, value in vars(arguments).items() if name != "name"}
    write(arguments.name, {"settings": settings, "runs": runs, **environment()})


if __name__ == "__main__":
    main()
