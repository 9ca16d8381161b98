from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from deepgen.eval.benchmark import Benchmark, ImageRecord, Item
from deepgen.eval.benchmarks.minibench.accuracy import condense
from deepgen.eval.benchmarks.minibench.benchmark import (
    MINIBENCH,
    MINIBENCH_VERSION0,
    wanted,
)
from deepgen.eval.benchmarks.minibench.rows import ROWS
from deepgen.eval.benchmarks.minibench.scorer import ACCURACY, MiniBenchScorer
from deepgen.eval.run.generation import select_items
from deepgen.eval.scorer import GeneratedImage, ImageScorer
from deepgen.mini.world.drawing import draw

SCORER = MiniBenchScorer(MINIBENCH)


def image(item: Item, side: int) -> Image.Image:
    """A perfect answer."""
    return draw(replace(wanted(item).target, height=side, width=side))


def look(item: Item, image: Image.Image, folder: Path) -> ImageRecord:
    return SCORER(
        GeneratedImage(
            item=item,
            image_index=0,
            image=image,
            path=folder / "x.png",
            sources=tuple(folder / path for path in item.sources),
        )
    )


@pytest.mark.parametrize("side", [64, 128, 512])
@pytest.mark.parametrize("benchmark", [MINIBENCH, MINIBENCH_VERSION0], ids=lambda each: each.name)
def test_perfect_images_of_every_kind_are_right(
    benchmark: Benchmark, side: int, tmp_path: Path
) -> None:
    SCORER.check()
    kinds = {item.fields["kind"]: item for item in benchmark.load(tmp_path).items}
    for kind, item in kinds.items():
        record = look(item, image(item, side), tmp_path)
        assert (record.status, record.values["right"]) == ("scored", 1), (kind, record.reason)
        if kind in ROWS["edits: untouched region kept"]:
            assert record.values["decibels"] >= 25, (kind, record.reason)


def test_the_image_of_another_prompt_is_wrong_and_the_reason_says_why(tmp_path: Path) -> None:
    items = select_items(MINIBENCH.load(tmp_path).items, 10)
    (counting,) = [item for item in items if item.category == "counting"]
    (words,) = [item for item in items if item.category == "words"]
    record = look(counting, image(words, 64), tmp_path)
    assert (record.status, record.values) == ("scored", {"right": 0})
    assert "asked for" in record.reason


def test_an_edit_that_paints_over_everything_keeps_nothing(tmp_path: Path) -> None:
    item = next(i for i in MINIBENCH.load(tmp_path).items if i.fields["kind"] == "add")
    record = look(item, Image.new("RGB", (64, 64), "black"), tmp_path)
    assert record.values["right"] == 0
    assert record.values["decibels"] < 10


def test_what_is_no_square_is_failed_and_not_zero(tmp_path: Path) -> None:
    items = MINIBENCH.load(tmp_path).items
    record = look(items[0], Image.new("RGB", (64, 96)), tmp_path)
    assert (record.status, record.values) == ("error", {})
    assert "expected a square" in record.reason


def test_every_report_says_how_often_the_scorer_itself_is_right() -> None:
    assert isinstance(SCORER, ImageScorer)
    for size in ("64 px", "128 px"):
        told = SCORER.identity[f"reader accuracy at {size}"]
        assert all(row in told for row in ROWS)
    first = MiniBenchScorer(MINIBENCH_VERSION0).identity
    assert "one object 100.0%" in first["reader accuracy at 64 px"]


def test_what_reports_say_is_what_was_measured() -> None:
    results = Path(__file__).parents[4] / "perf" / "results" / "minibench_scorer.json"
    measured = json.loads(results.read_text())["scorer"]
    assert json.loads(ACCURACY.read_text()) == condense(measured)
