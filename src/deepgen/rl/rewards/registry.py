"""Rewards by name. To add one: a module here that has ``create_reward``, and its line below."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from typing import Any

from deepgen.errors import ScorerError
from deepgen.rl.rewards.base import Reward
from deepgen.scoring.registry import created

REWARDS: Mapping[str, str] = {
    "clip": "cosine of the CLIP embeddings of image and prompt",
    "ocr": "how closely the text in an image has the target texts, by OCR",
    "preference": "win rate against the other images of the prompt, by a judge",
    "scene": "fraction of a scene of the mini's world that an image shows",
    "remote": "the number that a server behind HTTP gives an image",
}
"""Name of a reward, which is that of its module, and what it measures."""


def create_reward(name: str, *, kind: str = "", **options: Any) -> Reward:
    """Load or reach a reward.

    Args:
        name: The name that weights and metrics use.
        kind: One of ``REWARDS``, where that is another name.
        options: Arguments of the ``create_reward`` of its module.

    Raises:
        ScorerError: There is no such reward, it takes other options, or it cannot be used.
    """
    kind = kind or name
    if kind not in REWARDS:
        raise ScorerError(f"there is no reward {kind!r}; choose one of {', '.join(REWARDS)}")
    # Only the module of the chosen reward: some take seconds to import.
    factory = import_module(f"deepgen.rl.rewards.{kind}").create_reward
    reward: Reward = created(f"reward {name}", factory, options)
    return replace(reward, name=name)


def create_rewards(options: Mapping[str, Mapping[str, Any]]) -> dict[str, Reward]:
    """All rewards of a run: name to options, one of which may be its ``kind``.

    Raises:
        ScorerError: One cannot be created.
    """
    return {name: create_reward(name, **own) for name, own in options.items()}
