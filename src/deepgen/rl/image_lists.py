"""Folders of images with their prompts, to score with rewards outside training."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from deepgen.errors import DataError, reason_of
from deepgen.images.io import read_image
from deepgen.reading import MAX_PROMPTS_BYTES, read_text
from deepgen.rl.prompts import Prompt, parse_line, prompt_from_record
from deepgen.rl.rewards.base import Reward
from deepgen.rl.rewards.pool import PendingGroup, RetryPolicy, RewardPool

LIST = "images.jsonl"

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")

_PATIENT = RetryPolicy(deadline_seconds=24 * 3600.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedImage:
    """An image and its prompt."""

    name: str
    """Relative to its folder."""
    path: Path
    prompt: Prompt


@dataclass(frozen=True, kw_only=True, slots=True)
class Value:
    """One reward of one image."""

    value: float | None
    """None where it is missing."""
    reason: str = ""
    """Why it is missing."""


def read_image_list(
    folder: Path, prompt: str | None = None, target_texts: Sequence[str] = ()
) -> list[ListedImage]:
    """The images of a folder: those of its list, or with one prompt for all of them every one.

    Raises:
        DataError: There are no images, or there is no list, or a line of it is no record.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder of images; check the path")
    if prompt is not None:
        paths = sorted(each for each in folder.iterdir() if each.suffix.lower() in SUFFIXES)
        common = Prompt(
            id="prompt", prompt=prompt, category="general", target_texts=tuple(target_texts)
        )
        images = [ListedImage(name=path.name, path=path, prompt=common) for path in paths]
    else:
        images = _listed(folder)
    if not images:
        raise DataError(f"{folder} has no images; expected {', '.join(SUFFIXES)}")
    return images


def score_listed(
    images: Sequence[ListedImage], rewards: Mapping[str, Reward]
) -> list[dict[str, Value]]:
    """The rewards of each image: those whose needs its prompt meets, and pairwise ones where there
    are several images of the prompt.

    Raises:
        ImageError: An image cannot be read.
    """
    items = [replace(each.prompt.item(read_image(each.path)), category="") for each in images]
    weights = {name: {name: 1.0} for name in rewards}
    found: list[dict[str, Value]] = [{} for _ in images]
    with RewardPool(rewards, weights, _PATIENT) as pool:
        pending: list[tuple[str, list[int], PendingGroup]] = []
        for name, reward in rewards.items():
            for group in _groups(images, reward):
                own = [replace(items[index], category=name) for index in group]
                if all(reward.has_needs(each.target_texts, each.details) for each in own):
                    pending.append((name, group, pool.submit(own)))
        collected = pool.collect([group for _, _, group in pending])
    for (name, group, _), scored in zip(pending, collected, strict=True):
        for place, index in enumerate(group):
            values = scored[name].values
            value = None if values is None else values[place]
            found[index][name] = Value(value=value, reason=scored[name].reason)
    return found


def _groups(images: Sequence[ListedImage], reward: Reward) -> list[list[int]]:
    """What is scored together: each image alone, or all images of a prompt."""
    if not reward.is_pairwise:
        return [[index] for index in range(len(images))]
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for index, each in enumerate(images):
        groups[each.prompt.prompt].append(index)
    return [group for group in groups.values() if len(group) > 1]


def _listed(folder: Path) -> list[ListedImage]:
    path = folder / LIST
    try:
        lines = read_text(path, limit=MAX_PROMPTS_BYTES).split("\n")
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read ({reason_of(error)}); expected one record a line, with image "
            "and prompt, or give all images one --prompt"
        ) from None
    images = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        record = parse_line(line, place)
        if not isinstance(record, dict) or not isinstance(record.get("image"), str):
            raise DataError(f"{place}: expected an object with the file name as image")
        name = record.pop("image")
        record = {"id": name, "category": "general", **record}
        prompt = prompt_from_record(record, place)
        images.append(ListedImage(name=name, path=folder / name, prompt=prompt))
    return images
