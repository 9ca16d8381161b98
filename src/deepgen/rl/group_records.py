"""Records of groups: the images of a prompt with their rewards and advantages, for the run's page.

In the folder of a run: ``groups.jsonl``, a line per group, and its images in ``groups/``. A resumed
run may record a step again; the last line of a step and group counts.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image

from deepgen.images.io import atomic_file, encode_image
from deepgen.images.provenance import source_of
from deepgen.reading import MAX_LINES_BYTES, parse_json, read_text
from deepgen.rl.prompts import Prompt
from deepgen.rl.rewards.base import Rewards

GROUPS = "groups.jsonl"
IMAGES = "groups"


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupRecord:
    """One group of one step."""

    step: int
    group: int
    """Number of the group in its step, from 1."""
    prompt: str
    category: str
    images: tuple[str, ...]
    """Files, relative to the folder of the run."""
    rewards: Mapping[str, Sequence[float] | None]
    """One number per image; None where the reward is missing."""
    missing: Mapping[str, str]
    """Why rewards are missing."""
    advantages: tuple[float, ...]


def save_group(
    run: Path,
    *,
    step: int,
    group: int,
    prompt: Prompt,
    images: Sequence[Image.Image],
    rewards: Rewards,
    advantages: Sequence[float],
) -> None:
    """Write the images of a group, then its line; a full disk only costs the record."""
    source = source_of(is_edit=False)
    stem = f"{IMAGES}/step_{step:08}_{group}"
    names = [f"{stem}_{number}.png" for number, _ in enumerate(images, start=1)]
    record = GroupRecord(
        step=step,
        group=group,
        prompt=prompt.prompt,
        category=prompt.category,
        images=tuple(names),
        rewards={name: each.values for name, each in rewards.items()},
        missing={name: each.reason for name, each in rewards.items() if each.values is None},
        advantages=tuple(float(each) for each in advantages),
    )
    try:
        (run / IMAGES).mkdir(parents=True, exist_ok=True)
        for name, image in zip(names, images, strict=True):
            with atomic_file(run / name, overwrite=True) as part:
                part.write_bytes(encode_image(image, "PNG", {}, source=source))
        with (run / GROUPS).open("a", encoding="utf-8") as log:
            log.write(json.dumps(asdict(record), ensure_ascii=False) + "\n")
    except OSError as cause:
        warnings.warn(f"{run / GROUPS} cannot be written: {cause.strerror}", stacklevel=2)


def read_groups(run: Path) -> list[GroupRecord]:
    """The recorded groups by step and number; lines cut off by a kill are left out."""
    try:
        lines = read_text(run / GROUPS, limit=MAX_LINES_BYTES).splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    found: dict[tuple[int, int], GroupRecord] = {}
    for line in lines:
        try:
            values = parse_json(line)
            record = GroupRecord(
                **{**values, "images": tuple(values["images"])}
                | {"advantages": tuple(values["advantages"])}
            )
        except (ValueError, TypeError, KeyError):
            continue
        found[record.step, record.group] = record
    return [found[key] for key in sorted(found)]
