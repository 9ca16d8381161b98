"""GenEval: objects, counts, colours and positions, judged by a detector.

Source: djghosh13/geneval at af4902f, MIT; 553 prompts in six tags.
Protocol: four images a prompt; accuracy per tag over images, overall the unweighted mean of the
six tags (arXiv 2310.11513).
Judge: Mask2Former Swin-S (mmdetection 2.x weights) and OpenAI CLIP ViT-L/14 for colours.
Values: ``correct``, a boolean.
Known differences: the official scorer does not notice missing images and averages over the tags
that exist; here both forbid an overall, except under the rule ``official``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
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
from deepgen.eval.prompt_files import read_json_lines, require_fields, require_file, require_unique

TAGS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")

_FILE = "evaluation_metadata.jsonl"


def load(folder: Path) -> ItemList:
    """One item a line; its position is the number of its folder of images."""
    path = require_file(folder, _FILE, f"prompts/{_FILE}")
    items = []
    for number, (place, found) in enumerate(read_json_lines(path)):
        row = require_fields(found, place, tag=str, prompt=str, include=list)
        if row["tag"] not in TAGS:
            raise BenchmarkError(f"{place}: the tag {row['tag']!r} is none of {', '.join(TAGS)}")
        for index, clause in enumerate(row["include"]):
            require_fields(clause, place, **{"class": str, "count": int})
            if "position" in clause and clause["position"][1:] not in [[n] for n in range(index)]:
                raise BenchmarkError(f"{place}: a position refers to no earlier object")
        items.append(
            Item(
                id=f"{number:05d}",
                number=number,
                prompt=row["prompt"],
                category=row["tag"],
                fields=row,
            )
        )
    return ItemList(items=require_unique(items, path))


def image_path(item: Item, image_index: int) -> PurePosixPath:
    """``00012/samples/00003.png``."""
    return PurePosixPath(item.id, "samples", f"{image_index:05d}.png")


def sidecar_files(item: Item) -> Mapping[PurePosixPath, str | PurePosixPath]:
    """The prompt's own line, which the official scorer looks for in every folder."""
    return {PurePosixPath(item.id, "metadata.jsonl"): json.dumps(item.fields) + "\n"}


def score_terms(item: Item, images: Sequence[Values]) -> Iterator[ScoreTerm]:
    """Correct images of a tag, and whether any image of the prompt is correct."""
    correct = sum(bool(image["correct"]) for image in images)
    yield ScoreTerm("accuracy", item.category, correct, len(images))
    yield ScoreTerm("images", item.category, correct, len(images))
    yield ScoreTerm("prompts", item.category, float(correct > 0))


GENEVAL = Benchmark(
    name="geneval",
    title="GenEval",
    task="text-to-image",
    source=Source(
        repository="djghosh13/geneval",
        commit="af4902f",
        licence="MIT",
        files=(
            PromptFile(
                path=_FILE,
                repo_path=f"prompts/{_FILE}",
                sha256="5c48e0813e812e3c373fa5c8ed07a8f0a483be30272b4427b0559c8048e67c13",
            ),
        ),
    ),
    folder="geneval",
    scorer="detector",
    judge="Mask2Former Swin-S (mmdetection 2.x), OpenAI CLIP ViT-L/14",
    expected_items=553,
    generation=generation_presets(4),
    load=load,
    image_path=image_path,
    metrics=(
        Metric(name="accuracy", weights=equal_weights(TAGS), bounds=(0, 1)),
        Metric(name="images", bounds=(0, 1)),
        Metric(name="prompts", bounds=(0, 1)),
    ),
    score_terms=score_terms,
    lowest_values=lambda item: {"correct": False},
    sidecar_files=sidecar_files,
)

BENCHMARKS = (GENEVAL,)
