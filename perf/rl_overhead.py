"""What rewards cost an iteration of reinforcement learning, and whether they hide behind rollouts.

``python perf/rl_overhead.py`` trains the embedded model with the scene reward and, in turns, with
numbers that take no time in its place. Rewards are computed in threads while the next group is
sampled, but on a CPU they take time from it. The record is ``perf/results/rl_overhead.json``:
median seconds of an iteration, and the slowest call beside the time in which groups were sampled.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from measure import environment, write
from rl_small import small_stage
from rl_wordings import prompts_of

from deepgen.config.rl import RolloutConfig
from deepgen.rl.prompts import write_prompts
from deepgen.rl.rewards.base import Reward
from deepgen.rl.rewards.registry import create_reward
from deepgen.scoring.answers import Answer, AnswerStatus
from deepgen.scoring.scorer import ScorerInput
from deepgen.stages.reinforcement import build_rl


class Drawn:
    """Random numbers, so that groups have a spread as with a real reward."""

    identity: Mapping[str, str] = MappingProxyType({})
    bounds = (0.0, 1.0)
    name = "scene"

    def __init__(self) -> None:
        self.rng = random.Random(0)

    def score(self, inputs: Sequence[ScorerInput]) -> list[Answer[float]]:
        """One for every image."""
        return [Answer(status=AnswerStatus.SCORED, value=self.rng.random()) for _ in inputs]


def measured(reward: Reward, iterations: int) -> list[dict[str, Any]]:
    """Metrics of every iteration but the first, in which pages and caches warm up."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prompts = prompts_of(["two objects, rephrased"], "train", 200)
        write_prompts(folder / "train.jsonl", prompts)
        config = small_stage(
            folder / "train.jsonl",
            folder / "run",
            RolloutConfig(prompts=16),
            reward="scene",
            iterations=iterations,
            lr=1e-4,
        )
        run = build_rl(config, device=torch.device("cpu"), rewards={"scene": reward})
        run()
        lines = (config.output / "metrics.jsonl").read_text().splitlines()
    return [each for each in map(json.loads, lines) if each.get("step", 0) > 1 and "speed" in each]


def main() -> None:
    """Both in turns, then the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=4)
    arguments = parser.parse_args()
    sides = {
        "without rewards": Reward(name="scene", scorer=Drawn()),
        "scene": create_reward("scene"),
    }
    lines: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    for _ in range(arguments.repeats):
        for name, reward in sides.items():
            lines[name] += measured(reward, arguments.iterations)
    seconds = {
        name: [1 / each["speed"]["steps_per_second"] for each in own] for name, own in lines.items()
    }
    medians = {name: statistics.median(own) for name, own in seconds.items()}
    scene = lines["scene"]
    write(
        "rl_overhead",
        {
            "environment": environment(),
            "median_seconds": {name: round(each, 2) for name, each in medians.items()},
            "ratio": round(medians["scene"] / medians["without rewards"], 3),
            "slowest call, seconds": round(max(each["latency/scene/max"] for each in scene), 3),
            "sampling of an iteration, seconds": round(
                statistics.median(
                    each["speed"]["time"]["rollout"] / each["speed"]["steps_per_second"]
                    for each in scene
                ),
                2,
            ),
            "fraction of an iteration that waits for rewards": round(
                statistics.median(each["speed"]["time"]["rewards"] for each in scene), 4
            ),
            "seconds": {name: [round(each, 2) for each in own] for name, own in seconds.items()},
        },
    )


if __name__ == "__main__":
    main()
