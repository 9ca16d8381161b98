"""ImgEdit-Bench (Basic): nine types of edits, judged by a VLM on three criteria.

Source: PKU-YuanGroup/ImgEdit at 547185d, no licence stated; 737 edits (arXiv 2505.20275).
Protocol: one image an edit, three criteria from 1 to 5; an edit scores their mean, a type the
mean of its edits, and the overall is the unweighted mean of nine types, as in nine of twelve
published rows; the other three fit no rule.
Judge: GPT-4.1 on the leaderboard, gpt-4o in the script.
Values: ``scores``, three whole numbers.
Known differences: the official code accepts any count and range of numbers, and rounds edits and
types to two digits, which ``official rounding`` repeats.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from deepgen.errors import BenchmarkError
from deepgen.eval.benchmark import (
    Benchmark,
    Item,
    ItemList,
    Metric,
    PromptFile,
    ScoreTerm,
    Source,
    Values,
    equal_weights,
    generation_presets,
)
from deepgen.eval.benchmarks.imgedit.judge_prompts import JUDGE_PROMPTS
from deepgen.eval.prompt_files import read_json_entries, require_fields, require_file
from deepgen.eval.values import whole_numbers

TYPES = (
    "add",
    "adjust",
    "extract",
    "replace",
    "remove",
    "background",
    "style",
    "compose",
    "action",
)
"""In tables ``compose`` is called Hybrid."""

_FILE = "basic_edit.json"


def load(folder: Path) -> ItemList:
    """One item an entry; sources lie in the authors' archive, in its folder ``singleturn``."""
    path = require_file(folder, _FILE, f"Benchmark/Basic/{_FILE}")
    items = []
    for number, (place, key, found) in enumerate(read_json_entries(path)):
        row = require_fields(found, place, id=str, prompt=str, edit_type=str)
        if row["edit_type"] not in TYPES:
            raise BenchmarkError(f"{place}: the type {row['edit_type']!r} is of no known kind")
        items.append(
            Item(
                id=key,
                number=number,
                prompt=row["prompt"],
                category=row["edit_type"],
                sources=(PurePosixPath("singleturn", row["id"]),),
            )
        )
    return ItemList(items=tuple(items))


def score_terms(item: Item, images: Sequence[Values]) -> Iterator[ScoreTerm]:
    """The mean of three criteria."""
    for values in images:
        score = sum(whole_numbers(item, values, "scores", 3, 1, 5)) / 3
        yield ScoreTerm("overall", item.category, score)
        yield ScoreTerm("official rounding", item.category, round(score, 2))


IMGEDIT = Benchmark(
    name="imgedit",
    title="ImgEdit-Bench (Basic)",
    task="editing",
    source=Source(
        repository="PKU-YuanGroup/ImgEdit",
        commit="547185d",
        licence="none stated",
        files=(
            PromptFile(
                path=_FILE,
                repo_path=f"Benchmark/Basic/{_FILE}",
                sha256="5ee9b7d61e918692416f79896300f738598c83adff8de737b25be4aaff72dc69",
            ),
        ),
    ),
    folder="imgedit_bench",
    scorer="judge",
    judge="gpt-4.1, or gpt-4o-2024-08-06",
    expected_items=737,
    generation=generation_presets(1, editing=True),
    load=load,
    metrics=(
        Metric(name="overall", weights=equal_weights(TYPES), bounds=(1, 5)),
        Metric(
            name="official rounding", weights=equal_weights(TYPES), bounds=(1, 5), category_digits=2
        ),
    ),
    score_terms=score_terms,
    lowest_values=lambda item: {"scores": [1, 1, 1]},
    judge_prompts=JUDGE_PROMPTS,
)

BENCHMARKS = (IMGEDIT,)
