from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from deepgen.errors import ScorerError
from deepgen.eval.aggregation import aggregate
from deepgen.eval.benchmark import ImageRecord, Item
from deepgen.eval.benchmarks.dpg.benchmark import DPG
from deepgen.eval.benchmarks.dpg.scorer import DpgScorer
from deepgen.eval.scorer import GeneratedImage
from deepgen.scoring.answers import Answer, AnswerStatus


class StubModel:
    name = "stub"

    def __init__(self, *answers: bool | AnswerStatus) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def ask(self, image: Image.Image, questions: Sequence[str]) -> list[Answer[bool]]:
        self.asked += questions
        return [
            Answer(status=each, reason="as told")
            if isinstance(each, AnswerStatus)
            else Answer(status=AnswerStatus.SCORED, value=each, reply="yes" if each else "no")
            for each in self.answers
        ]


def question(identifier: str, *parents: str) -> dict[str, object]:
    return {
        "id": identifier,
        "parents": list(parents),
        "question": f"is it {identifier}?",
        "level 1": "entity",
        "level 2": "entity - whole",
    }


ITEM = Item(
    id="0",
    number=0,
    prompt="p",
    category="plain",
    fields={
        "questions": [question("1"), question("2", "1"), question("3", "1", "2"), question("4")]
    },
)


def score(model: StubModel, item: Item = ITEM, image_index: int = 0) -> ImageRecord:
    image = Image.new("RGB", (8, 8))
    return DpgScorer(model, {})(
        GeneratedImage(item=item, image_index=image_index, image=image, path=Path("0.png"))
    )


@pytest.mark.parametrize(
    ("answers", "expected"), [((False, True, True, True), 25), ((True, False, True, True), 50)]
)
def test_answers_go_by_the_numbers_of_their_questions(
    answers: tuple[bool, ...], expected: float
) -> None:
    model = StubModel(*answers)
    records = [score(model, image_index=image_index) for image_index in range(4)]
    assert model.asked[:4] == ["is it 1?", "is it 2?", "is it 3?", "is it 4?"]
    said = dict(zip("1234", answers, strict=True))
    assert records[0].values == {"answers": said, "judge": "stub"}
    assert aggregate(DPG, [ITEM], records).metrics["score"] == expected
    assert records[0].reason.splitlines()[3] == "is it 4? yes"


def test_one_question_without_an_answer_fails_the_image() -> None:
    record = score(StubModel(True, AnswerStatus.UNREADABLE))
    assert (record.status, record.values) == ("unreadable", {})
    assert record.reason == "is it 2?: as told"
    record = score(StubModel(True, True, True, AnswerStatus.ERROR))
    assert (record.status, record.values) == ("error", {})


def test_prompts_without_their_questions_are_not_scored_at_all() -> None:
    item = Item(id="7", number=7, prompt="p", category="plain", fields={"questions": []})
    with pytest.raises(ScorerError, match="is needed for scoring; fetch it") as info:
        score(StubModel(), item)
    assert "\n" not in str(info.value)
