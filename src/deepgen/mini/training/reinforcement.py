"""Stage 3 of the mini: rewards that are computed from its world, and a CLIP trained on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from deepgen.config.mini import GROUP_SIZE, MiniConfig
from deepgen.config.rl import RlStageConfig, RolloutConfig
from deepgen.config.train import OptimizerConfig
from deepgen.prompts.building import TEXT, mini_prompt
from deepgen.rl.prompts import write_prompts

PROMPTS = 20_000

WEIGHTS: Mapping[str, Mapping[str, float]] = {
    "general": {"scene": 0.7, "clip": 0.3},
    TEXT: {"scene": 0.5, "clip": 0.1, "ocr": 0.4},
}
"""By category of the prompts; those of the chosen rewards count."""

STEPS = 8
"""Of a rollout; users take 20."""


def write_rl_prompts(path: Path, *, words: bool, count: int) -> None:
    """Different prompts of the world in both languages; none is held out.

    Args:
        words: Include those with words, which takes OCR to score.
        count: Prompts that are looked at.
    """
    prompts = {each.prompt: each for each in map(mini_prompt, range(count))}
    wanted = [each for each in prompts.values() if words or not each.target_texts]
    write_prompts(path, wanted, overwrite=True)


def rl_settings(
    config: MiniConfig, settings: RlStageConfig, *, prompts: Path, clip: Path | None
) -> RlStageConfig:
    """The recipe ``rl`` for the mini.

    DiffusionNFT (arXiv 2509.16117) in place of the published MR-GRPO, since so small a model is
    trained for few iterations: docs/reinforcement.md compares both.

    Args:
        settings: The recipe.
        prompts: File of prompts.
        clip: Folder of the CLIP, where it is a reward.
    """
    chosen: set[str] = set(config.rl_rewards)
    has_words = "ocr" in chosen
    options: dict[str, dict[str, Any]] = {
        "scene": {"reads_words": has_words},
        "clip": {"weights": str(clip)},
        "ocr": {},
    }
    weights: dict[str, dict[str, float]] = {
        category: {name: part for name, part in own.items() if name in chosen}
        for category, own in WEIGHTS.items()
        if category != TEXT or has_words
    }
    rollout = RolloutConfig(
        prompts=config.rl_prompts,
        group_size=GROUP_SIZE,
        steps=STEPS,
        window=3,
        shared_noise=False,
    )
    return replace(
        settings,
        microbatch_size=32,
        optimizer=OptimizerConfig(lr=1e-4, weight_decay=0.0, warmup_ratio=0.05),
        rl=replace(
            settings.rl,
            prompts=(prompts,),
            rewards={name: own for name, own in options.items() if name in chosen},
            weights=weights,
            rollout=rollout,
            policy=replace(settings.rl.policy, objective="nft"),
        ),
    )
