"""Published tables beside a run, and whether the run's scores are comparable with them.

A number belongs to a benchmark, a protocol and a judge together. The benchmark holds the tables of
its protocol; the judge and its prompts are compared here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from typing import Any

from deepgen.eval.benchmark import Benchmark
from deepgen.eval.scorer import PARAPHRASED

ROLES = ("judge", "vqa", "detector", "detections", "ocr", "reader")
"""Keys of ``scorer.json`` for what scored the images, whatever the benchmark."""


def describe_published(benchmark: Benchmark, scorer: Mapping[str, str]) -> dict[str, Any]:
    """The tables as plain values, and why there may be fewer than one expects.

    Each has ``not_comparable``: why a run with this scorer may not be compared with it, or "".

    Args:
        scorer: Identity of the run's scorer, as ``scorer.json`` has it.
    """
    described = [
        {**asdict(table), "not_comparable": why_not_comparable(scorer, table.judge, table.accepted)}
        for table in benchmark.published
    ]
    # Through JSON, so that a report in memory equals one that was read back: lists, no tuples.
    tables: list[Any] = json.loads(json.dumps(described))
    return {"tables": tables, "elsewhere": benchmark.published_elsewhere or None}


def why_not_comparable(scorer: Mapping[str, str], judge: str, accepted: Sequence[str]) -> str:
    """Why a run's scores may not be compared with a table's, as a sentence; empty where they may.

    Args:
        scorer: Identity of the run's scorer.
        judge: Who judged there, in words.
        accepted: Patterns of the names under which that judge is known here.
    """
    if scorer.get("judge_prompts") == PARAPHRASED:
        return "The judge was given paraphrased prompts, not the official ones."
    if not scorer:
        return "The run does not record its scorer."
    everything = ", ".join(f"{name} {value}" for name, value in scorer.items())
    here = next((scorer[role] for role in ROLES if role in scorer), everything)
    # Some servers put the maker before the name of a model.
    names = (here.lower(), here.lower().rpartition("/")[2])
    if any(fnmatchcase(name, pattern) for name in names for pattern in accepted):
        return ""
    return f"Scored here by {here}, and there by another: {judge}."


def find_cell(
    row: Mapping[str, Any], metric: str, category: str | None = None
) -> Mapping[str, Any] | None:
    """A published number of a metric or of one of its categories, if the row has it."""
    cells: Sequence[Mapping[str, Any]] = row["cells"]
    return next(
        (cell for cell in cells if (cell["metric"], cell["category"]) == (metric, category)), None
    )
