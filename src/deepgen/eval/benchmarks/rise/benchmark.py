"""RISEBench: edits that take reasoning about time, cause, space or logic, judged by a VLM.

Source: PhoenixZ810/RISEBench at 5f22651, no licence stated; 360 edits, of which 64 are in the
repository and the rest on the hub (arXiv 2504.02826).
Protocol: one image an edit; consistency C, reasoning R and plausibility V from 1 to 5, logical
edits without V and with 0 or 1, which stand for 1 and 5::

    score    = .3 C + .5 R + .2 V; logical .3 C + .7 R; where nothing has to stay, .8 R + .2 V
    score    = max(score / 2, 1) where R = 1
    accuracy = 1 if every applicable judgement is 5

Main metric: accuracy over all edits. ``rise/2026-04`` (plain ``rise``) exempts edits without
consistency from it; under ``rise/2025-05``, the DeepGen paper's, these cannot be accurate.
Judge: gpt-4.1-2025-04-14.
Values: ``consistency``, ``reasoning``, ``plausibility``, as the judge gave them.
Known differences: the official score takes a missing flag for a set one, so once any edit has the
flag, all but logical ones are scored .8 R + .2 V; that is ``official score``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

from deepgen.errors import BenchmarkError
from deepgen.eval.benchmark import (
    Benchmark,
    ImageRecord,
    Item,
    ItemList,
    Json,
    Metric,
    PromptFile,
    ScoreTerm,
    Source,
    Values,
    generation_presets,
)
from deepgen.eval.benchmarks.rise.judge_prompts import JUDGE_PROMPTS
from deepgen.eval.prompt_files import (
    find_file,
    read_json_list,
    require_fields,
    require_file,
    require_unique,
)
from deepgen.eval.values import whole_number

CATEGORIES = ("temporal_reasoning", "causal_reasoning", "spatial_reasoning", "logical_reasoning")
LOGICAL = "logical_reasoning"

WHOLE = "datav2_total_w_subtask.json"
SUBSET = "data_total.json"

_OPTIONAL = ("reference", "reference_img", "reference_txt", "reasoning_img", "subtask")
_FLAGS = ("consistency_free", "reasoning_wo_ins")


def load(folder: Path) -> ItemList:
    """The whole list, or the subset of the repository; absent optional fields are not set."""
    whole = find_file(folder, WHOLE, f"data/{WHOLE}")
    path = whole or require_file(folder, SUBSET, f"data/{SUBSET}")
    rows = [
        require_fields(found, place, index=str, category=str, instruction=str, image=str)
        for place, found in read_json_list(path)
    ]
    has_flag = any("consistency_free" in row for row in rows)
    items = []
    for number, row in enumerate(rows):
        if row["category"] not in CATEGORIES:
            raise BenchmarkError(f"{path}, entry {number + 1}: unknown {row['category']!r}")
        items.append(
            Item(
                id=row["index"],
                number=number,
                prompt=row["instruction"],
                category=row["category"],
                sources=(PurePosixPath(row["image"]),),
                fields={name: row[name] for name in _OPTIONAL if _is_set(row.get(name))}
                | {name: _is_set(row.get(name)) for name in _FLAGS}
                | {"list_has_consistency_free": has_flag},
            )
        )
    absent = () if whole else (WHOLE,)
    return ItemList(items=require_unique(items, path), absent=absent)


def _is_set(value: Json) -> bool:
    """Neither absent nor empty nor NaN, which is what a spreadsheet makes of absent cells."""
    return bool(value) and value == value


def image_path(item: Item, image_index: int) -> PurePosixPath:
    """``images/<category>/<index>.png``."""
    return PurePosixPath("images", item.category, f"{item.id}.png")


def score_terms(exempt: bool, item: Item, images: Sequence[Values]) -> Iterator[ScoreTerm]:
    """Accuracy, score and percent of one edit.

    Args:
        exempt: Whether an edit in which nothing has to stay can be accurate.
    """
    free = bool(item.fields.get("consistency_free"))
    for values in images:
        if not values:
            # The official code counts an unreadable reply as wrong, and gives it no score.
            yield ScoreTerm("accuracy", item.category, 0)
            continue
        judged = _judged(item, values, free=free)
        accurate = all(each == 5 for each in judged.values()) and (exempt or not free)
        yield ScoreTerm("accuracy", item.category, 100 * accurate)
        score = weighted_score(judged, logical=item.category == LOGICAL)
        yield ScoreTerm("score", item.category, score)
        yield ScoreTerm("percent", item.category, 25 * (score - 1))
        if item.fields.get("list_has_consistency_free") and item.category != LOGICAL:
            judged.pop("consistency", None)
        official = weighted_score(judged, logical=item.category == LOGICAL)
        yield ScoreTerm("official score", item.category, official)


def _judged(item: Item, values: Values, *, free: bool) -> dict[str, int]:
    """What applies to an edit, from 1 to 5."""
    names = [] if free else ["consistency"]
    if item.category == LOGICAL:
        # Scale of two: 0 is 1, and anything above is 5.
        found = {name: whole_number(item, values, name, 0, 5) for name in [*names, "reasoning"]}
        return {name: 5 if value > 0 else 1 for name, value in found.items()}
    names += ["reasoning", "plausibility"]
    return {name: whole_number(item, values, name, 1, 5) for name in names}


def weighted_score(judged: Mapping[str, int], *, logical: bool) -> float:
    """Weighted mean from 1 to 5, halved where the reasoning is all wrong."""
    if "consistency" not in judged:
        score = judged["reasoning"] if logical else _dot(judged, reasoning=0.8, plausibility=0.2)
    elif logical:
        score = _dot(judged, consistency=0.3, reasoning=0.7)
    else:
        score = _dot(judged, consistency=0.3, reasoning=0.5, plausibility=0.2)
    return max(score / 2, 1.0) if judged["reasoning"] == 1 else float(score)


def _dot(judged: Mapping[str, int], **weights: float) -> float:
    return sum(weight * judged[name] for name, weight in weights.items())


def lowest_values(item: Item) -> Values:
    """Everything is wrong."""
    low = 0 if item.category == LOGICAL else 1
    return {"consistency": low, "reasoning": low, "plausibility": low}


def official_failure(item: Item, record: ImageRecord) -> Values | None:
    """No judgements: not accurate, and without a score."""
    return None if record.status == "missing" else {}


RISE_2026 = Benchmark(
    name="rise/2026-04",
    title="RISEBench (rules of 2026-04)",
    task="editing",
    source=Source(
        repository="PhoenixZ810/RISEBench",
        commit="5f22651",
        licence="none stated",
        files=(
            PromptFile(
                path=WHOLE,
                repo_path=None,
                by_hand="huggingface.co/datasets/PhoenixZ/RISEBench",
            ),
            PromptFile(
                path=SUBSET,
                repo_path=f"data/{SUBSET}",
                sha256="8c60e730429e9f18df98e200fcefb9c246a4edeec17772eb1613076af2cb90c7",
            ),
        ),
    ),
    folder="risebench",
    scorer="judge",
    judge="gpt-4.1-2025-04-14",
    expected_items=360,
    generation=generation_presets(1, editing=True),
    load=load,
    image_path=image_path,
    metrics=(
        Metric(name="accuracy", bounds=(0, 100), digits=1),
        Metric(name="score"),
        Metric(name="percent", bounds=(0, 100), digits=1),
        Metric(name="official score"),
    ),
    score_terms=partial(score_terms, True),
    lowest_values=lowest_values,
    official_failure=official_failure,
    official_refusal=frozenset({"missing"}),
    judge_prompts=JUDGE_PROMPTS,
    published_elsewhere=(
        "DeepGen's paper is older than the change of the scorer in April 2026, which raised every "
        "row (BAGEL from 11.9 to 15.8): see rise/2025-05."
    ),
)

RISE_2025 = replace(
    RISE_2026,
    name="rise/2025-05",
    title="RISEBench (rules of 2025-05)",
    score_terms=partial(score_terms, False),
    published_elsewhere="",
)

BENCHMARKS = (RISE_2026, RISE_2025)
