from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from deepgen.errors import ScorerError
from deepgen.scoring.answers import Answer, AnswerStatus
from deepgen.scoring.clip import ClipScorer, load_clip
from deepgen.scoring.ocr import WordAccuracy
from deepgen.scoring.registry import SCORERS, create_scorer
from deepgen.scoring.scorer import Scorer, ScorerInput, score_images
from deepgen.scoring.scripted import ScriptedJudge
from deepgen.scoring.templates import parse_template
from deepgen.scoring.yes_no import QUESTION, YesNoScorer
from tests.scoring.servers import Heard, Said, completion, serve, text_of
from tests.scoring.tiny_models import save_clip


def image(level: int) -> Image.Image:
    return Image.new("RGB", (8, 8), (level, level, level))


def level_of(shown: Image.Image) -> int:
    level = shown.convert("L").getpixel((0, 0))
    assert isinstance(level, int)
    return level


def inputs(*levels: int, prompt: str = "a cat") -> list[ScorerInput]:
    return [ScorerInput(image=image(level), prompt=prompt) for level in levels]


class StubReader:
    """Reads a word from each grey level; fails on black."""

    name = "stub-1"

    def read(self, shown: Image.Image) -> Answer[list[str]]:
        level = level_of(shown)
        if level == 0:
            return Answer(status=AnswerStatus.ERROR, reason="it crashed")
        return Answer(status=AnswerStatus.SCORED, value=["New Yorl" if level < 100 else "new york"])


class StubScorer:
    name = "stub"
    bounds = (0.0, 1.0)
    identity: Mapping[str, str] = {"stub": "1"}

    def __init__(self, *values: float | None) -> None:
        self.answers: list[Answer[float]] = [
            Answer(status=AnswerStatus.SCORED, value=value) for value in values
        ]

    def score(self, given: Sequence[ScorerInput]) -> list[Answer[float]]:
        return self.answers


def worker(heard: Heard) -> Said:
    if heard.path == "/version":
        return Said({"name": "brightness", "weights": "2"})
    rows = []
    for item in reversed(heard.body["items"]):
        level = level_of(Image.open(io.BytesIO(base64.b64decode(item["image"]))))
        row: dict[str, Any] = {"id": item["id"], "value": level / 255 if level else None}
        rows.append(row | ({} if level else {"error": "too dark"}))
    return Said({"scores": rows})


def test_values_that_cannot_be_right_are_failures_and_not_numbers() -> None:
    found = score_images(StubScorer(0.5, float("nan"), 1.5, -0.1, None, 1.0), inputs(*range(6)))
    assert [each.value for each in found] == [0.5, None, None, None, None, 1.0]
    assert [each.status for each in found[1:5]] == [AnswerStatus.UNREADABLE] * 4
    assert found[2].reason == "stub gave 1.5, expected a number from 0 to 1"
    found = score_images(StubScorer(0.5), inputs(1, 2))
    assert {each.status for each in found} == {AnswerStatus.UNREADABLE}
    assert found[0].reason == "stub gave 1 answers for 2 images"


def test_rounding_may_pass_the_bounds() -> None:
    assert score_images(StubScorer(1 + 1e-7), inputs(1))[0].value == 1 + 1e-7


def test_a_failed_answer_stays_what_it_is() -> None:
    stub = StubScorer()
    stub.answers = [Answer(status=AnswerStatus.REFUSED, reason="a filter")]
    assert score_images(stub, inputs(1)) == stub.answers


def test_clip_scores_each_image_with_its_prompt(tmp_path: Path) -> None:
    save_clip(tmp_path)
    scorer = create_scorer("clip", weights=str(tmp_path))
    assert isinstance(scorer, ClipScorer) and isinstance(scorer, Scorer)
    assert scorer.identity["clip"].startswith(f"{tmp_path.name}@")
    given = [*inputs(10, 200, prompt="a cat"), *inputs(90, prompt="dogs")]
    found = score_images(scorer, given)
    clip = load_clip(tmp_path)
    expected = clip.score([each.image for each in given], ["a cat", "a cat", "dogs"])
    assert [each.value for each in found] == expected
    assert score_images(scorer, given[::-1])[0].value == pytest.approx(expected[2], abs=1e-6)


def test_clip_without_memory_scores_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_clip(tmp_path)
    scorer = create_scorer("clip", weights=str(tmp_path))
    assert isinstance(scorer, ClipScorer)

    def fails(*_: object) -> None:
        raise torch.OutOfMemoryError("out of\nmemory")

    monkeypatch.setattr(scorer.clip, "embed_images", fails)
    found = score_images(scorer, inputs(1, 2))
    assert [(each.status, each.value) for each in found] == [(AnswerStatus.ERROR, None)] * 2
    assert found[0].reason == "OutOfMemoryError: out of memory"


def test_word_accuracy_is_the_share_of_words_read_and_failures_are_none() -> None:
    scorer = WordAccuracy(StubReader())
    assert isinstance(scorer, Scorer) and scorer.identity == {"ocr": "stub-1"}
    given = [
        ScorerInput(image=image(level), prompt="a sign", target_texts=texts)
        for level, texts in ((200, ("New York",)), (50, ("New", "york")), (0, ("New",)), (200, ()))
    ]
    found = score_images(scorer, given)
    assert [each.value for each in found] == [1.0, 0.5, None, None]
    assert [each.status for each in found[2:]] == [AnswerStatus.ERROR] * 2
    assert [each.reason for each in found[2:]] == [
        "it crashed",
        "there are no target texts to read",
    ]


def test_word_accuracy_reads_through_a_worker() -> None:
    def respond(heard: Heard) -> Said:
        if heard.path == "/version":
            return Said({"name": "paddleocr-2.10.0"})
        return Said(
            {"scores": [{"id": each["id"], "value": ["x"]} for each in heard.body["items"]]}
        )

    with serve(respond) as server:
        scorer = create_scorer("ocr", worker_url=server.url)
        given = ScorerInput(image=image(1), prompt="", target_texts=("x y",))
        assert score_images(scorer, [given])[0].value == 0.5
        assert scorer.identity == {"ocr": "paddleocr-2.10.0"}


def test_a_worker_gives_numbers_in_the_order_of_the_images() -> None:
    with serve(worker) as server:
        scorer = create_scorer("remote", url=server.url, bounds=(0.0, 1.0))
        assert isinstance(scorer, Scorer)
        assert scorer.identity == {"worker": "brightness (weights 2)"}
        found = score_images(scorer, inputs(51, 0, 255, 102))
    assert [each.value for each in found] == [0.2, None, 1.0, 0.4]
    assert (found[1].status, found[1].reason) == (AnswerStatus.ERROR, "too dark")


def test_a_worker_that_is_not_there_cannot_be_used() -> None:
    with serve(worker) as server:
        url = server.url
    with pytest.raises(ScorerError, match="does not answer"):
        create_scorer("remote", url=url)


def test_a_judge_answers_for_each_prompt_and_unreadable_replies_are_failures() -> None:
    judge = ScriptedJudge({"cat": "Yes.", "dog": "no", "fox": "Hm.", "hen": "yes"})
    scorer = YesNoScorer(judge, parse_template(QUESTION), concurrency=3)
    assert isinstance(scorer, Scorer)
    prompts = ("a cat", "a dog", "a fox", "a cow", "a hen")
    found = score_images(scorer, [inputs(1, prompt=prompt)[0] for prompt in prompts])
    assert [each.value for each in found] == [1.0, 0.0, None, None, 1.0]
    assert [each.status for each in found[2:4]] == [AnswerStatus.UNREADABLE, AnswerStatus.ERROR]
    other = YesNoScorer(judge, parse_template("Is it {prompt}?"))
    assert other.identity["judge"] == scorer.identity["judge"]
    assert other.identity != scorer.identity


def test_a_judge_sees_the_references_of_an_edit_first(tmp_path: Path) -> None:
    with serve(lambda heard: completion("yes")) as server:
        scorer = create_scorer(
            "yes_no", url=f"{server.url}/v1", model="stub", cache=tmp_path / "replies.sqlite"
        )
        before = dict(scorer.identity)
        given = ScorerInput(image=image(1), prompt="make it blue", references=(image(255),))
        assert score_images(scorer, [given])[0].value == 1.0
        # Also once the server has stated the name of its snapshot.
        assert scorer.identity == before
    content = server.heard[0].body["messages"][0]["content"]
    shown = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
    levels = [
        level_of(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))) for url in shown
    ]
    assert levels == [255, 1]
    assert "make it blue" in text_of(server.heard[0])


def test_an_unknown_scorer_or_option_is_named_in_one_line() -> None:
    with pytest.raises(ScorerError, match=f"no scorer 'clap'; choose one of {', '.join(SCORERS)}"):
        create_scorer("clap")
    with pytest.raises(ScorerError, match=r"scorer clip .*'weigths'; it takes weights, device"):
        create_scorer("clip", weigths="x")


@pytest.mark.parametrize("name", SCORERS)
def test_every_line_of_the_registry_has_its_module(name: str) -> None:
    with pytest.raises(ScorerError, match=f"scorer {name} cannot be created"):
        create_scorer(name, no_such_option=1)
