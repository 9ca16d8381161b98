"""Hand-made records, and the real prompt files that they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deepgen.eval.aggregation import Scores, aggregate
from deepgen.eval.benchmark import Benchmark, ImageRecord, Item, Rule, Values
from tests.shared import shared_dir


def prompt_folder(name: str) -> Path:
    """The real prompt files of one benchmark."""
    folder = shared_dir() / "data" / "benchmarks" / name
    assert folder.is_dir(), f"{folder} is missing from the shared folder"
    return folder


def score(
    benchmark: Benchmark,
    found: Sequence[tuple[Item, Sequence[Values]]],
    rule: Rule = "strict",
) -> Scores:
    """Scores of items with the given values, one set an image."""
    records = [
        ImageRecord(item=item.id, image_index=image_index, values=values)
        for item, images in found
        for image_index, values in enumerate(images)
    ]
    return aggregate(benchmark, [item for item, _ in found], records, rule)


def make_item(identifier: str, category: str, number: int = 0, **fields: object) -> Item:
    """An item with nothing but what arithmetic needs."""
    return Item(id=identifier, number=number, prompt="", category=category, fields=fields)
