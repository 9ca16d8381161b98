"""Does reinforcement learning raise the scene reward of the embedded model on unseen prompts?

``python perf/rl_mini.py --folder runs/rl-mini`` trains the embedded model on prompts that are
phrased unlike those of its training (``rl_wordings.py``), and compares it with itself before, by
row: the same held-out prompts and noise, sampled by the ODE without guidance, scored by the reader
of the reward and by the other one, that of MiniBench. Rows with known wordings are not rewarded,
and must not fall. Intervals are 95 % bootstraps over prompts. The record is
``perf/results/rl_mini.json``, with the curve of every run.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import environment, write
from PIL import Image
from rl_small import small_stage
from rl_wordings import ROWS, prompts_of

from deepgen.checkpoint.folder import load_folder
from deepgen.checkpoint.hub import resolve
from deepgen.config.rl import RlStageConfig, RolloutConfig
from deepgen.flow.schedule import sampling_sigmas
from deepgen.images.tensors import to_image
from deepgen.mini.reader.scenes import load_scene_reader
from deepgen.mini.world.request import SceneRequest
from deepgen.mini.world.scene import BACKGROUNDS
from deepgen.model import DeepGen
from deepgen.pipeline.denoising import advance, begin
from deepgen.rl.prompts import Prompt, write_prompts
from deepgen.rl.rewards.registry import create_reward
from deepgen.rl.rewards.scene import fulfilled
from deepgen.stages.reinforcement import build_rl
from deepgen.types import Prompt as VlmPrompt

AT_ONCE = 32
SAMPLES = 2000


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


def by_row(
    rows: Sequence[str], before: dict[str, np.ndarray], after: dict[str, np.ndarray]
) -> dict[str, Any]:
    """Comparisons of every row by both readers; prompts of a row follow each other."""
    size = len(before["reward"]) // len(rows)
    places = {row: slice(size * place, size * (place + 1)) for place, row in enumerate(rows)}
    return {
        row: {name: compared(before[name][own], after[name][own]) for name in before}
        for row, own in places.items()
    }


def settings_of(arguments: argparse.Namespace, seed: int, folder: Path) -> RlStageConfig:
    """The recipe, with the settings of this run."""
    rollout = RolloutConfig(
        prompts=arguments.prompts,
        group_size=arguments.group_size,
        steps=arguments.steps,
        window=arguments.window or None,
        eta=arguments.eta,
        shared_noise=arguments.shared_noise,
    )
    return small_stage(
        folder / "train.jsonl",
        folder / f"run {seed}",
        rollout,
        reward="scene",
        iterations=arguments.iterations,
        lr=arguments.lr,
        seed=seed,
        objective=arguments.objective,
        estimator=arguments.estimator,
        beta=arguments.beta,
    )


def arguments_of() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--iterations", type=int, default=60)
    parser.add_argument("--prompts", type=int, default=16, help="per iteration")
    parser.add_argument("--group-size", type=int, default=8)
    parser.add_argument("--rewarded", nargs="+", choices=ROWS, default=[*ROWS[:3]])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=[*ROWS], help="evaluated")
    parser.add_argument("--held-out", type=int, default=400, help="prompts of every row")
    parser.add_argument("--steps", type=int, default=6, help="of a rollout")
    parser.add_argument("--evaluation-steps", type=int, default=8)
    parser.add_argument("--window", type=int, default=2, help="0: all steps")
    parser.add_argument("--eta", type=float, default=0.7)
    parser.add_argument("--shared-noise", action="store_true")
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--beta", type=float, default=0.0)
    parser.add_argument("--objective", choices=("grpo", "nft"), default="nft")
    parser.add_argument("--estimator", choices=("gdpo", "grpo"), default="gdpo")
    parser.add_argument("--folder", type=Path, required=True, help="of the runs")
    parser.add_argument("--name", default="rl_mini")
    return parser.parse_args()


def main() -> None:
    """Train, compare, and write the record after every seed."""
    arguments = arguments_of()
    folder: Path = arguments.folder
    folder.mkdir(parents=True)
    write_prompts(folder / "train.jsonl", prompts_of(arguments.rewarded, "train", 500))
    held_out = prompts_of(arguments.rows, "held out", arguments.held_out)
    base = load_folder(resolve("mini"))
    before = scores(base, held_out, arguments.evaluation_steps)
    runs: dict[str, Any] = {}
    for seed in arguments.seeds:
        config = settings_of(arguments, seed, folder)
        began = time.perf_counter()
        run = build_rl(config, device=torch.device("cpu"))
        run()
        seconds = time.perf_counter() - began
        lines = [
            json.loads(line) for line in (config.output / "metrics.jsonl").read_text().splitlines()
        ]
        after = scores(run.model, held_out, arguments.evaluation_steps)
        runs[str(seed)] = {
            "seconds": round(seconds),
            "rows": by_row(arguments.rows, before, after),
            "curve": {
                name: [round(line[name], 5) for line in lines if name in line]
                for name in (
                    "reward/scene",
                    "reward_std/scene",
                    "flat/scene",
                    "velocity_distance",
                    "diversity",
                )
            },
            "time": lines[-1]["speed"]["time"],
        }
        settings = {
            name: value for name, value in vars(arguments).items() if name not in ("name", "folder")
        }
        write(arguments.name, {"settings": settings, "runs": runs, **environment()})


if __name__ == "__main__":
    main()
