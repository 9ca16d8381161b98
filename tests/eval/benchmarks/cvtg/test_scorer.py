from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from deepgen.eval.aggregation import aggregate
from deepgen.eval.benchmark import Item
from deepgen.eval.benchmarks.cvtg.benchmark import CVTG
from deepgen.eval.benchmarks.cvtg.scorer import CvtgScorer
from deepgen.eval.scorer import GeneratedImage
from deepgen.scoring.answers import Answer, AnswerStatus
from deepgen.scoring.clip import Clip

ITEM = Item(
    id="CVTG/2/0",
    number=0,
    prompt="a sign 'New York' and 'new'",
    category="CVTG/2",
    fields={"words": ["new", "york", "new"]},
)
DRAWING = GeneratedImage(
    item=ITEM, image_index=0, image=Image.new("RGB", (8, 8)), path=Path("0.png")
)


class StubReader:
    name = "stub-1"

    def __init__(self, *lines: str, status: AnswerStatus = AnswerStatus.SCORED) -> None:
        self.answer = Answer(status=status, value=list(lines), reason="it crashed")

    def read(self, image: Image.Image) -> Answer[list[str]]:
        return self.answer


class StubClip(Clip):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def score(self, images: Sequence[Image.Image], texts: Sequence[str]) -> list[float]:
        self.texts += texts
        return [0.75 for _ in images]


def test_words_are_read_back_and_the_whole_prompt_is_compared() -> None:
    clip = StubClip()
    record = CvtgScorer(StubReader("New Yorl", "shop"), clip, {})(DRAWING)
    assert clip.texts == [ITEM.prompt]
    assert record.reason == "read: New Yorl / shop"
    assert record.values["lines"] == ["New Yorl", "shop"]
    metrics = aggregate(CVTG, [ITEM], [record]).metrics
    assert metrics["word accuracy"] == pytest.approx(2 / 3)
    assert metrics["ned"] == pytest.approx(2.75 / 3, abs=1e-5)
    assert metrics["clip score"] == 0.75
    assert metrics["extra words"] == 2


def test_nothing_read_is_a_score_and_a_crash_is_none() -> None:
    empty = CvtgScorer(StubReader(), None, {})(DRAWING)
    assert (empty.status, empty.values["found"], empty.reason) == ("scored", 0, "read: nothing")
    assert aggregate(CVTG, [ITEM], [empty]).metrics["clip score"] is None
    crashed = CvtgScorer(StubReader(status=AnswerStatus.ERROR), StubClip(), {})(DRAWING)
    assert (crashed.status, crashed.values) == ("error", {})
    assert crashed.reason == "stub-1: it crashed"
