"""Statistics of a data set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepgen.data.dataset import BucketKey, DataSet
from deepgen.data.measures import flag_counts
from deepgen.errors import DataError

QUANTILES = {"min": 0.0, "median": 0.5, "p95": 0.95, "max": 1.0}


@dataclass(frozen=True, kw_only=True, slots=True)
class Stats:
    """Counts and quantiles; every mapping is in the order in which it is shown."""

    samples: int
    images: int
    bytes: int
    tasks: dict[str, int]
    splits: dict[str, int]
    prompt_kinds: dict[str, int]
    references: dict[int, int]
    """Samples by the number of their references."""
    buckets: dict[str, int]
    """Samples by the sizes after resizing, height x width; the largest first."""
    unequal_edits: int
    """Edits with a reference of another size than the target."""
    prompt_characters: dict[str, int]
    short_side: dict[str, int]
    """Pixels of the target's shorter side."""
    unstated_licence: int
    licences: dict[str, int]
    measured: dict[str, int]
    """Samples by flag (see ``measures``); empty if the data set was not measured."""


def stats_of(data: DataSet, *, side: int) -> Stats:
    """Count over all rows that are used; no image is opened.

    Raises:
        DataError: A mixture uses none.
    """
    used = data.used
    if not used.any():
        raise DataError(f"{data.folder} uses no sample; remove conditions from its sources")
    table = data.table if used.all() else data.table.filter(pa.array(used))
    prompts = pc.list_flatten(table["prompts"])
    target, references = table["target"], pc.list_flatten(table["references"])
    sides = pc.min_element_wise(pc.struct_field(target, "width"), pc.struct_field(target, "height"))
    lengths = [
        pc.sum(pc.struct_field(each, "length")).as_py() or 0 for each in (target, references)
    ]
    keys, numbers = data.bucket_keys(side)
    counts = np.bincount(numbers[used], minlength=len(keys)).tolist()
    found = [(key, count) for key, count in zip(keys, counts, strict=True) if count]
    by_count = sorted(found, key=lambda each: (-each[1], each[0]))
    return Stats(
        samples=len(table),
        images=len(target) + len(references),
        bytes=sum(pc.sum(each).as_py() or 0 for each in lengths),
        tasks=_counts(table["task"]),
        splits=_counts(table["split"]),
        prompt_kinds=_counts(pc.struct_field(prompts, "kind")),
        references=_counts(pc.list_value_length(table["references"])),
        buckets={_name(key): count for key, count in by_count},
        unequal_edits=sum(
            count for (target, others), count in by_count if any(each != target for each in others)
        ),
        prompt_characters=_spread(pc.utf8_length(pc.struct_field(prompts, "text"))),
        short_side=_spread(sides),
        unstated_licence=pc.sum(pc.equal(table["licence"], "unknown")).as_py(),
        licences=_counts(table["licence"]),
        measured=flag_counts(data),
    )


def _name(key: BucketKey) -> str:
    """``target``, or ``target <- reference + reference``, as height x width."""
    target, *references = [f"{height}x{width}" for height, width in (key[0], *key[1])]
    return " <- ".join(part for part in (target, " + ".join(references)) if part)


def _counts(column: pa.ChunkedArray) -> dict[Any, int]:
    found = pc.value_counts(column).to_pylist()
    return {each["values"]: each["counts"] for each in sorted(found, key=lambda e: e["values"])}


def _spread(column: pa.ChunkedArray) -> dict[str, int]:
    found = pc.quantile(column, q=list(QUANTILES.values()), interpolation="nearest")
    return dict(zip(QUANTILES, found.to_pylist(), strict=True))
