"""A judge that answers from a list, for tests and for dry runs without a server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from deepgen.errors import ScorerError, reason_of
from deepgen.reading import read_json
from deepgen.scoring.answers import Answer, AnswerStatus, Parse, parsed_answer
from deepgen.scoring.questions import Question, sha256_of_json

T = TypeVar("T")


class ScriptedJudge:
    """Gives each question the reply whose key occurs in the text of the question.

    Args:
        replies: Key to reply. Of several keys that occur the longest counts; the empty key occurs
            in every question.
    """

    def __init__(self, replies: Mapping[str, str]) -> None:
        self.replies = dict(replies)

    @classmethod
    def from_file(cls, path: Path) -> ScriptedJudge:
        """Read a JSON object of keys and replies.

        Raises:
            ScorerError: There is no such file, or it holds something else.
        """
        try:
            replies = read_json(path)
        except (OSError, ValueError) as error:
            raise ScorerError(
                f"{path} holds no scripted replies ({reason_of(error)}); expected a JSON object "
                "from a part of the question to the reply"
            ) from None
        if not isinstance(replies, dict) or not all(isinstance(x, str) for x in replies.values()):
            raise ScorerError(f"{path} must hold one JSON object from keys to replies, as strings")
        return cls(replies)

    @property
    def name(self) -> str:
        """Includes a hash of the replies: another list is another judge."""
        return f"scripted-{sha256_of_json(self.replies)[:12]}"

    def ask(self, question: Question, parse: Parse[T]) -> Answer[T]:
        """Answer from the list; a question without a matching key is an ``error``."""
        known: dict[str, Any] = {"model": self.name, "prompt_hash": question.prompt_hash}
        fitting = [key for key in self.replies if key in question.text]
        if not fitting:
            return Answer(status=AnswerStatus.ERROR, reason="no scripted reply fits", **known)
        reply = self.replies[max(fitting, key=len)]
        return parsed_answer(parse(reply), reply=reply, replies=1, **known)
