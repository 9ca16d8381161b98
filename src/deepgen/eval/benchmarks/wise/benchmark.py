"""WISE: prompts whose image takes knowledge of the world, judged by a VLM.

Source: PKU-YuanGroup/WISE at eb51174, no licence stated; 1,000 prompts in each of two editions.
Protocol ``verified`` (plain ``wise``): Qwen3.5-35B-A3B says 0 or 1 per image. Protocol ``legacy``
(arXiv 2503.07265, and the DeepGen paper's): gpt-4o-2024-05-13 gives consistency C, realism R and
aesthetic quality A from 0 to 2, and WiScore = (0.7 C + 0.2 R + 0.1 A) / 2.
Overall: means of six categories, weighted by their fraction of the 1,000 prompts.
Values: ``score``; or ``consistency``, ``realism``, ``aesthetic_quality``.
Known differences: the legacy parser accepts any digit, here only 0 to 2. Other GPT-4o snapshots
move the legacy score by .08.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

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
    generation_presets,
)
from deepgen.eval.benchmarks.wise.judge_prompts import LEGACY, VERIFIED
from deepgen.eval.prompt_files import read_json_list, require_fields, require_file, require_unique
from deepgen.eval.values import whole_number

# The category follows from the prompt's number, and not from its file.
LEGACY_SIZES = {
    "Cultural": 400,
    "Time": 167,
    "Space": 133,
    "Biology": 100,
    "Physics": 100,
    "Chemistry": 100,
}
VERIFIED_SIZES = {"Cultural": 400} | dict.fromkeys(list(LEGACY_SIZES)[1:], 120)


def _weights(sizes: Mapping[str, int]) -> Mapping[str, float]:
    return {name: size / 1000 for name, size in sizes.items()}


def load(files: Sequence[PromptFile], sizes: Mapping[str, int], folder: Path) -> ItemList:
    """The prompts of one edition, in the order of their numbers."""
    categories = [name for name, size in sizes.items() for _ in range(size)]
    items = []
    for file in files:
        path = require_file(folder, file.path, Path(file.path).name, str(file.repo_path))
        for place, found in read_json_list(path):
            row = require_fields(
                found, place, Prompt=str, Explanation=str, Subcategory=str, prompt_id=int
            )
            number = row["prompt_id"]
            if not 1 <= number <= len(categories):
                raise BenchmarkError(f"{place}: the prompt_id {number} is not in 1 to 1000")
            items.append(
                Item(
                    id=str(number),
                    number=number - 1,
                    prompt=row["Prompt"],
                    category=categories[number - 1],
                    fields=row,
                )
            )
    return ItemList(items=require_unique(sorted(items, key=lambda item: item.number), folder))


def score_terms_legacy(item: Item, images: Sequence[Values]) -> Iterator[ScoreTerm]:
    """WiScore = (0.7 C + 0.2 R + 0.1 A) / 2."""
    for values in images:
        consistency = whole_number(item, values, "consistency", 0, 2)
        realism = whole_number(item, values, "realism", 0, 2)
        aesthetics = whole_number(item, values, "aesthetic_quality", 0, 2)
        yield ScoreTerm(
            "wiscore", item.category, (0.7 * consistency + 0.2 * realism + 0.1 * aesthetics) / 2
        )


def score_terms_verified(item: Item, images: Sequence[Values]) -> Iterator[ScoreTerm]:
    """Right and usable, or not."""
    for values in images:
        yield ScoreTerm("accuracy", item.category, whole_number(item, values, "score", 0, 1))


def _source(edition: str, folder: str, hashes: Mapping[str, str]) -> Source:
    return Source(
        repository="PKU-YuanGroup/WISE",
        commit="eb51174",
        licence="none stated",
        files=tuple(
            PromptFile(
                path=f"{edition}/{name}.json",
                repo_path=f"{folder}/{name}.json",
                sha256=hashes[name],
            )
            for name in hashes
        ),
    )


LEGACY_SOURCE = _source(
    "legacy",
    "WISE_legacy/data",
    {
        "cultural_common_sense": (
            "7a59216c768698280cea37caa574b52f3faf054d73b398b9bb6b3161baf8e3aa"
        ),
        "natural_science": "b262fae58e413c7a4bd3c3d5a089f8c6529feac227e4b6606be261a949035544",
        "spatio-temporal_reasoning": (
            "e27d797885ad86e64d857d0cc93d33e04be572a8dcae95692a2c7e7876233f9a"
        ),
    },
)
VERIFIED_SOURCE = _source(
    "verified",
    "data_verified",
    {
        "cultural_common_sense_verified": (
            "23482925266e2784b2ba24b75239fdc6691bf85ae253d2c4aa38b71b45fefa89"
        ),
        "natural_science_verified": (
            "6f346c336f16f611e5c73e0fcacdccb336c200d534cf111526b22d50ea912555"
        ),
        "spatio-temporal_reasoning_verified": (
            "42c0b9d829365e392c2d4af283850dc76b1f922ab0c79198366de4f306eaf2b6"
        ),
    },
)

WISE_VERIFIED = Benchmark(
    name="wise/verified",
    title="WISE (verified edition)",
    task="text-to-image",
    source=VERIFIED_SOURCE,
    folder="wise",
    scorer="judge",
    judge="Qwen3.5-35B-A3B",
    expected_items=1000,
    generation=generation_presets(1),
    load=partial(load, VERIFIED_SOURCE.files, VERIFIED_SIZES),
    metrics=(Metric(name="accuracy", weights=_weights(VERIFIED_SIZES), bounds=(0, 1), digits=4),),
    score_terms=score_terms_verified,
    lowest_values=lambda item: {"score": 0},
    official_refusal=frozenset({"missing", "refused", "unreadable", "error"}),
    judge_prompts=VERIFIED,
    published_elsewhere=(
        "DeepGen's paper reports the legacy edition, with another judge and another score: see "
        "wise/legacy."
    ),
)

WISE_LEGACY = replace(
    WISE_VERIFIED,
    name="wise/legacy",
    title="WISE (legacy edition)",
    source=LEGACY_SOURCE,
    judge="gpt-4o-2024-05-13",
    load=partial(load, LEGACY_SOURCE.files, LEGACY_SIZES),
    metrics=(Metric(name="wiscore", weights=_weights(LEGACY_SIZES), bounds=(0, 1)),),
    score_terms=score_terms_legacy,
    lowest_values=lambda item: {"consistency": 0, "realism": 0, "aesthetic_quality": 0},
    judge_prompts=LEGACY,
    published_elsewhere="",
)

BENCHMARKS = (WISE_VERIFIED, WISE_LEGACY)
