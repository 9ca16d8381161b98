"""``deepgen rewards``: rewards of reinforcement learning as servers, and on a folder of images."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from deepgen.cli.console import aligned, print_line, print_result
from deepgen.cli.options import DeviceChoice, Text
from deepgen.errors import ScorerError, UsageError

if TYPE_CHECKING:
    from deepgen.rl.image_lists import ListedImage, Value
    from deepgen.rl.rewards.base import Reward

MISSING = 3
"""Exit code where a reward is missing for an image."""

NOT_ASKED = "-"
"""In the table, where a prompt lacks what a reward needs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RewardFlags:
    """What rewards are computed with; each takes what it needs."""

    clip: Text = None
    """clip: folder or hub id (default: OpenAI's ViT-L/14 of the hub)."""
    ocr_url: Text = None
    """ocr and scene: server of an OCR engine (default: rapidocr on this machine)."""
    judge_url: Text = None
    """preference: OpenAI-compatible server of the judge, such as http://localhost:8000/v1; its key
    comes from the environment variable DEEPGEN_JUDGE_KEY."""
    judge_model: Text = None
    """preference: the judge, as its server calls it."""
    reward_url: Text = None
    """remote: server of any reward, such as deepgen rewards serve."""
    device: DeviceChoice = "auto"
    """Where local rewards compute."""

    def create(self, name: str) -> Reward:
        """A reward with its options.

        Raises:
            ScorerError: It cannot be used, or needs an option.
        """
        from deepgen.devices import local_device, pick_device
        from deepgen.rl.rewards.registry import create_reward
        from deepgen.scoring.ocr import has_rapidocr

        needed = {
            "preference": {"--judge-url": self.judge_url, "--judge-model": self.judge_model},
            "remote": {"--reward-url": self.reward_url},
        }
        absent = [flag for flag, value in needed.get(name, {}).items() if value is None]
        if absent:
            raise ScorerError(f"the reward {name} needs {' and '.join(absent)}")
        ocr = {"worker_url": self.ocr_url} if self.ocr_url else {}
        options: Mapping[str, Mapping[str, Any]] = {
            "clip": {"device": str(local_device(pick_device(self.device)))}
            | ({"weights": self.clip} if self.clip else {}),
            "ocr": ocr,
            "scene": ocr or {"reads_words": has_rapidocr()},
            "preference": {"url": self.judge_url, "model": self.judge_model},
            "remote": {"url": self.reward_url},
        }
        return create_reward(name, **options.get(name, {}))


@dataclass(frozen=True, kw_only=True, slots=True)
class Serve:
    """Compute a reward for others: JSON over HTTP, until it is interrupted."""

    name: Positional[Annotated[str, arg(metavar="REWARD")]]
    """clip, ocr, scene, or one that was added; see deepgen rewards check."""
    host: Annotated[str, arg(metavar="ADDRESS")] = "127.0.0.1"
    """Where to listen; 0.0.0.0 for other machines. Whoever reaches it may use it."""
    port: Annotated[int, arg(metavar="INT")] = 8100
    """Port; 0 takes a free one."""
    with_: Annotated[RewardFlags, arg(name="")] = field(default_factory=RewardFlags)
    """What the reward is computed with."""
    debug: bool = False
    """Show where an error comes from."""

    def run(self) -> None:
        """Check the reward, print the address, then answer requests.

        Raises:
            ScorerError: The reward cannot be used or served, or the address cannot.
        """
        from deepgen.rl.rewards.serving import RewardServer

        reward = self.with_.create(self.name)
        with RewardServer(reward, host=self.host, port=self.port) as server:
            reward.check()
            print_result(server.url)
            print_line(f"serving {self.name}; Ctrl-C ends it")
            server.serve_forever()


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """Score a folder of images with all rewards, and print a table."""

    folder: Positional[Annotated[Path, arg(metavar="FOLDER")]]
    """Images, described by images.jsonl in it: records of prompts with the file as "image"."""
    prompt: Text = None
    """The prompt of all images, instead of images.jsonl; they are then one group."""
    target_texts: Annotated[tuple[str, ...], arg(metavar="TEXT [TEXT ...]")] = ()
    """With --prompt: texts that must be legible."""
    rewards: Annotated[tuple[str, ...], arg(metavar="REWARD [REWARD ...]")] = ()
    """Only these (default: all that can be used)."""
    with_: Annotated[RewardFlags, arg(name="")] = field(default_factory=RewardFlags)
    """What the rewards are computed with."""
    json: bool = False
    """Print one JSON object."""
    debug: bool = False
    """Show where an error comes from."""

    def run(self) -> int:
        """Print a row per image.

        Returns:
            ``MISSING`` where a reward is missing for an image, else 0.

        Raises:
            ScorerError: A reward that was named cannot be used, or none can.
            DataError: The list of images cannot be read.
            ImageError: An image cannot be read.
        """
        from deepgen.rl.image_lists import read_image_list, score_listed

        if self.target_texts and self.prompt is None:
            raise UsageError("--target-texts requires --prompt; images.jsonl has its own")
        images = read_image_list(self.folder, self.prompt, self.target_texts)
        rewards, unusable = self._create()
        found = score_listed(images, rewards)
        reasons = _reasons(images, found)
        if self.json:
            print_result(json.dumps(_report(images, found, rewards, unusable), ensure_ascii=False))
        else:
            for name, reason in unusable.items():
                print_line(f"not used: {name} ({reason})")
            print_result("\n".join(aligned(_table(images, found, list(rewards)))))
            for reason in reasons:
                print_line(f"missing: {reason}")
        return MISSING if reasons else 0

    def _create(self) -> tuple[dict[str, Reward], dict[str, str]]:
        """The rewards, and why others cannot be used."""
        from deepgen.rl.rewards.registry import REWARDS

        rewards, unusable = {}, {}
        for name in self.rewards or REWARDS:
            try:
                reward = self.with_.create(name)
                reward.check()
                rewards[name] = reward
            except ScorerError as error:
                if self.rewards:
                    raise
                unusable[name] = str(error)
        if not rewards:
            raise ScorerError(f"no reward can be used: {'; '.join(unusable.values())}")
        return rewards, unusable


def _table(
    images: Sequence[ListedImage], found: Sequence[Mapping[str, Value]], names: Sequence[str]
) -> list[list[str]]:
    rows = [["image", *names]]
    for image, values in zip(images, found, strict=True):
        rows.append([image.name, *(_cell(values.get(name)) for name in names)])
    return rows


def _cell(found: Value | None) -> str:
    if found is None:
        return NOT_ASKED
    return "missing" if found.value is None else f"{found.value:.3f}"


def _reasons(images: Sequence[ListedImage], found: Sequence[Mapping[str, Value]]) -> list[str]:
    """Every reason once, with the first image that it is about."""
    reasons: dict[str, str] = {}
    for image, values in zip(images, found, strict=True):
        for name, each in values.items():
            if each.value is None:
                reasons.setdefault(f"{name}: {each.reason}", image.name)
    return [f"{reason} (first {image})" for reason, image in reasons.items()]


def _report(
    images: Sequence[ListedImage],
    found: Sequence[Mapping[str, Value]],
    rewards: Mapping[str, Reward],
    unusable: Mapping[str, str],
) -> dict[str, Any]:
    return {
        "rewards": {name: dict(reward.identity) for name, reward in rewards.items()},
        "not_used": dict(unusable),
        "images": [
            {
                "image": image.name,
                "prompt": image.prompt.prompt,
                "rewards": {name: each.value for name, each in own.items()},
                "missing": {name: each.reason for name, each in own.items() if each.value is None},
            }
            for image, own in zip(images, found, strict=True)
        ],
    }
