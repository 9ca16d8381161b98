"""What a data set is made of, in numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from deepgen.data.dataset import DataSet

QUANTILES = {"min": 0.0, "median": 0.5, "p95": 0.95, "max": 1.0}


@dataclass(frozen=True, kw_only=True, slots=True)
class Stats:
    """Counts and spreads; every mapping is in the order in which it is to be shown."""

    samples: int
    pictures: int
    bytes: int
    tasks: dict[str, int]
    splits: dict[str, int]
    prompt_kinds: dict[str, int]
    references: dict[int, int]
    """Samples by the number of their references."""
    buckets: dict[str, int]
    """Samples by the sizes that the model sees, height x width; the largest first."""
    unequal_edits: int
    """Edits with a reference of another size than the target."""
    prompt_characters: dict[str, float]
    short_side: dict[str, float]
    """Pixels of the target's shorter side."""
    unstated_licence: int


def stats_of(data: DataSet, *, side: int) -> Stats:
    """Go through all rows once; no picture is opened.

    Args:
        data: The data set.
        side: What buckets are counted for.
    """
    tasks: Counter[str] = Counter()
    splits: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    references: Counter[int] = Counter()
    characters: list[int] = []
    sides: list[int] = []
    size = unstated = 0
    for row in range(len(data)):
        record = data.record(row)
        tasks[record.task] += 1
        splits[record.split] += 1
        references[len(record.references)] += 1
        kinds.update(each.kind for each in record.prompts)
        characters += [len(each.text) for each in record.prompts]
        sides.append(min(record.target.width, record.target.height))
        size += sum(each.length for each in record.pictures)
        unstated += record.licence == "unknown"
    keys, numbers = data.bucket_keys(side)
    counts = np.bincount(numbers, minlength=len(keys)).tolist()
    by_count = sorted(zip(keys, counts, strict=True), key=lambda each: (-each[1], each[0]))
    return Stats(
        samples=len(data),
        pictures=sum((1 + number) * count for number, count in references.items()),
        bytes=size,
        tasks=dict(sorted(tasks.items())),
        splits=dict(sorted(splits.items())),
        prompt_kinds=dict(sorted(kinds.items())),
        references=dict(sorted(references.items())),
        buckets={
            " <- ".join(f"{height}x{width}" for height, width in (target, *others)): count
            for (target, others), count in by_count
        },
        unequal_edits=sum(
            count for (target, others), count in by_count if any(each != target for each in others)
        ),
        prompt_characters=_spread(characters),
        short_side=_spread(sides),
        unstated_licence=unstated,
    )


def _spread(values: list[int]) -> dict[str, float]:
    found = np.quantile(values, list(QUANTILES.values()), method="nearest")
    return dict(zip(QUANTILES, map(float, found), strict=True))
