from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from deepgen.errors import ScorerError
from deepgen.scoring.answers import Answer, AnswerStatus
from deepgen.scoring.remote import Worker, WorkerConfig
from deepgen.scoring.scripted import ScriptedJudge
from deepgen.scoring.templates import parse_template
from deepgen.scoring.vqa import BlipAnswers, JudgeAnswers, RemoteAnswers
from tests.scoring.servers import Heard, Said, serve
from tests.scoring.tiny_models import save_blip

IMAGE = Image.new("RGB", (20, 12), "red")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BLIP that says yes and ends, or no, as its one bias has it."""
    path = tmp_path_factory.mktemp("blip")
    save_blip(path)
    return path


def test_a_blip_answers_each_question_alone_and_in_a_batch(folder: Path) -> None:
    model = BlipAnswers(str(folder))
    questions = ["is it red?", "red?", "is is is it it it red?"]
    together = model.ask(IMAGE, questions)
    assert [answer.status for answer in together] == [AnswerStatus.SCORED] * 3
    for question, answer in zip(questions, together, strict=True):
        (alone,) = model.ask(IMAGE, [question])
        assert alone.reply == answer.reply
        assert answer.value is (answer.reply == "yes")


def test_only_yes_is_yes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = BlipAnswers(str(folder))
    said = iter([["yes", "no", "yes it is", ""]])
    monkeypatch.setattr(model, "_generate", lambda pixels, questions: next(said))
    assert [each.value for each in model.ask(IMAGE, ["a"] * 4)] == [True, False, False, False]


def test_a_model_that_fails_is_an_error_of_each_question(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_memory(pixels: torch.Tensor, questions: list[str]) -> list[str]:
        raise RuntimeError("CUDA out of memory\nby much")

    model = BlipAnswers(str(folder))
    monkeypatch.setattr(model, "_generate", out_of_memory)
    answers = model.ask(IMAGE, ["a", "b"])
    assert [each.status for each in answers] == [AnswerStatus.ERROR] * 2
    assert answers[0].reason == "RuntimeError: CUDA out of memory by much"


def test_what_answers_no_questions_is_one_line(tmp_path: Path) -> None:
    for source in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ScorerError, match="give a") as info:
            BlipAnswers(str(source))
        assert "\n" not in str(info.value)


def test_a_worker_answers_each_question_as_the_prompt_of_the_image() -> None:
    def answer(heard: Heard) -> Said:
        if heard.path == "/version":
            return Said({"name": "mplug", "weights": "abc"})
        replies = {"is it red?": "yes", "is it blue?": "no", "is it round?": "yes, sir"}
        scores = [
            {"id": item["id"], "value": replies.get(item["prompt"])} for item in heard.body["items"]
        ]
        return Said({"scores": scores})

    with serve(answer) as server:
        remote = RemoteAnswers(Worker(WorkerConfig(base_url=server.url)))
        answers: list[Answer[bool]] = remote.ask(
            IMAGE, ["is it red?", "is it blue?", "is it round?", "is it?"]
        )
    assert remote.name == "mplug (weights abc)"
    assert [each.value for each in answers] == [True, False, False, None]
    assert answers[-1].status is AnswerStatus.ERROR


def test_a_judge_is_asked_each_question_in_our_words() -> None:
    judge = ScriptedJudge({"red": "Yes.", "blue": "no", "tall": "who knows"})
    asked = JudgeAnswers(judge, parse_template("{question} Yes or no?"))
    assert [each.value for each in asked.ask(IMAGE, ["Is it red?", "Is it blue?"])] == [True, False]
    answers = asked.ask(IMAGE, ["Is it tall?", "Is it red?"])
    assert [each.status for each in answers] == [AnswerStatus.UNREADABLE], "the image has failed"
