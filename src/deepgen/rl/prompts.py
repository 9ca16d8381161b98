"""The prompts of reinforcement learning: files of records, and an endless stream drawn from them.

One JSON object a line: ``id``, ``prompt``, ``category``, and where there are any ``target_texts``
(a list), ``details`` (an object, such as a scene of the mini's world), ``source``, ``license``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from deepgen.config.checks import check_positive
from deepgen.data.randomness import sample_generator
from deepgen.errors import DataError, reason_of
from deepgen.images.io import atomic_file
from deepgen.reading import MAX_PROMPTS_BYTES, parse_json, read_text
from deepgen.rl.rewards.base import Reward, RewardItem, Weights, active_rewards

SamplingMode = Literal["sample_proportional", "weight_only"]
"""``sample_proportional``: a prompt's chance is proportional to the weight of its file;
``weight_only``: a file's chance is, however many prompts it has."""

FIELDS = ("id", "prompt", "category", "target_texts", "details", "source", "license")


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """One prompt, and what rewards need besides."""

    id: str
    prompt: str
    category: str
    target_texts: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    license: str = ""

    def item(self, image: Image.Image) -> RewardItem:
        """An image that was generated from it."""
        return RewardItem(
            image=image,
            prompt=self.prompt,
            category=self.category,
            target_texts=self.target_texts,
            details=self.details,
        )

    def to_json(self) -> dict[str, Any]:
        """Its record; empty fields are left out."""
        found = {name: getattr(self, name) for name in FIELDS}
        found |= {"target_texts": list(self.target_texts), "details": dict(self.details)}
        return {name: value for name, value in found.items() if value}


def read_prompts(path: Path, *, category: str = "") -> tuple[Prompt, ...]:
    """The prompts of a file of records, or of a text file with one prompt a line.

    Args:
        category: Of prompts that state none; without it they are refused.

    Raises:
        DataError: The file cannot be read, a line is no record, an id occurs twice, or there are no
            prompts.
    """
    try:
        lines = read_text(path, limit=MAX_PROMPTS_BYTES).split("\n")
    except (OSError, ValueError) as error:
        raise DataError(f"the prompts {path} cannot be read: {reason_of(error)}") from None
    prompts: dict[str, Prompt] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        record: Any = {"prompt": line.strip()}
        if path.suffix == ".jsonl":
            record = parse_line(line, place)
        if isinstance(record, dict):
            record = {"id": f"{path.stem}/{number}", "category": category, **record}
        prompt = prompt_from_record(record, place)
        if prompt.id in prompts:
            raise DataError(f"{place}: the id {prompt.id!r} occurs twice; ids must differ")
        prompts[prompt.id] = prompt
    if not prompts:
        raise DataError(f"{path} has no prompts; expected one record a line")
    return tuple(prompts.values())


def write_prompts(path: Path, prompts: Sequence[Prompt], *, overwrite: bool = False) -> None:
    """Write a file of records; it appears whole or not at all.

    Raises:
        ValueError: It exists.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.dumps(each.to_json(), ensure_ascii=False) for each in prompts]
    with atomic_file(path, overwrite=overwrite) as part:
        part.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")


def check_prompts(
    prompts: Sequence[Prompt], rewards: Mapping[str, Reward], weights: Weights
) -> None:
    """Check that every prompt has what the rewards of its category need.

    Raises:
        DataError: One has not, such as a text prompt without target texts.
        ValueError: Its category has no rewards.
    """
    for prompt in prompts:
        for name in active_rewards(weights, prompt.category):
            reward = rewards[name]
            if reward.has_needs(prompt.target_texts, prompt.details):
                continue
            if reward.needs == "target_texts":
                raise DataError(
                    f"the prompt {prompt.id} has no target_texts with a letter or digit, which the "
                    f"reward {name} of its category {prompt.category} reads; add them to its record"
                )
            raise DataError(
                f"the prompt {prompt.id} has no scene in its details, which the reward {name} of "
                f"its category {prompt.category} needs; only prompts of the mini's world have one"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptSet:
    """The prompts of one file, and how often they are drawn."""

    prompts: tuple[Prompt, ...]
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_positive("the weight of a prompt file", self.weight)
        if not self.prompts:
            raise ValueError("a prompt file has no prompts; expected at least one")


class PromptStream:
    """An endless stream of prompts, drawn with replacement.

    The prompt at a position is a function of seed and position, so the stream is the same for any
    number of processes, which take slices of it, and is resumed anywhere.

    Raises:
        ValueError: There are no files.
    """

    def __init__(
        self,
        sets: Sequence[PromptSet],
        *,
        seed: int,
        mode: SamplingMode = "sample_proportional",
    ) -> None:
        if not sets:
            raise ValueError("there are no prompts; name at least one file")
        self._sets = tuple(sets)
        self._seed = seed
        shares = [
            each.weight * (len(each.prompts) if mode == "sample_proportional" else 1)
            for each in sets
        ]
        self._bounds = np.array(list(accumulate(shares))) / sum(shares)

    def __getitem__(self, position: int) -> Prompt:
        """The prompt at a position, from 0."""
        rng = sample_generator(self._seed, position, 0, "prompt")
        place = int(np.searchsorted(self._bounds, rng.random(), side="right"))
        prompts = self._sets[min(place, len(self._sets) - 1)].prompts
        return prompts[int(rng.integers(len(prompts)))]

    def take(self, start: int, count: int) -> Iterator[Prompt]:
        """``count`` prompts from a position on."""
        return (self[position] for position in range(start, start + count))


def parse_line(line: str, place: str) -> Any:
    """The values of a line of JSON.

    Args:
        place: Names it in messages.

    Raises:
        DataError: It is not JSON.
    """
    try:
        return parse_json(line)
    except ValueError as error:
        raise DataError(f"{place}: not valid JSON ({error}); correct the line") from None


def prompt_from_record(record: Any, place: str) -> Prompt:
    """A checked record.

    Args:
        place: Names it in messages.

    Raises:
        DataError: It is no record.
    """
    if not isinstance(record, dict):
        raise DataError(f"{place}: expected an object, found {type(record).__name__}")
    unknown = sorted(set(record) - set(FIELDS))
    if unknown:
        raise DataError(
            f"{place}: the fields {', '.join(unknown)} are unknown; expected some of "
            f"{', '.join(FIELDS)}"
        )
    texts, details = record.get("target_texts") or [], record.get("details") or {}
    for name in ("id", "prompt", "category"):
        if not isinstance(record.get(name), str) or not record[name].strip():
            raise DataError(f"{place}: {name} must be a text, got {record.get(name)!r}")
    if not isinstance(texts, list) or not all(isinstance(each, str) for each in texts):
        raise DataError(f"{place}: target_texts must be a list of texts, got {texts!r}")
    if not isinstance(details, dict):
        raise DataError(f"{place}: details must be an object, got {details!r}")
    return Prompt(
        id=record["id"],
        prompt=record["prompt"].strip(),
        category=record["category"],
        target_texts=tuple(texts),
        details=details,
        source=str(record.get("source") or ""),
        license=str(record.get("license") or ""),
    )
