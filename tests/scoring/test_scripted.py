from __future__ import annotations

from pathlib import Path

import pytest

from deepgen.errors import ScorerError
from deepgen.scoring.answers import AnswerStatus
from deepgen.scoring.parsing import parse_yes_no
from deepgen.scoring.questions import Question
from deepgen.scoring.scripted import ScriptedJudge


def test_the_longest_key_that_occurs_answers() -> None:
    judge = ScriptedJudge({"": "no", "apple": "yes", "green apple": "Hm."})
    asked = [Question(parts=(text,)) for text in ("a cat", "an apple", "a green apple")]
    answers = [judge.ask(each, parse_yes_no) for each in asked]
    assert [answer.value for answer in answers] == [0, 1, None]
    assert answers[2].status is AnswerStatus.UNREADABLE


def test_a_question_without_a_reply_is_failed() -> None:
    answer = ScriptedJudge({"cat": "yes"}).ask(Question(parts=("a dog",)), parse_yes_no)
    assert (answer.status, answer.value) == (AnswerStatus.ERROR, None)


def test_another_script_is_another_judge(tmp_path: Path) -> None:
    path = tmp_path / "replies.json"
    path.write_text('{"cat": "yes"}', encoding="utf-8")
    assert ScriptedJudge.from_file(path).name == ScriptedJudge({"cat": "yes"}).name
    assert ScriptedJudge({"cat": "no"}).name != ScriptedJudge({"cat": "yes"}).name


@pytest.mark.parametrize("text", [None, "{", "[]", '{"cat": 1}'])
def test_a_file_without_replies_is_refused(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "replies.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(ScorerError, match="repl"):
        ScriptedJudge.from_file(path)
