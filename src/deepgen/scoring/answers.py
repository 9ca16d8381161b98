"""The result of scoring one thing: a value, or the reason why there is none. Never 0 instead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class AnswerStatus(StrEnum):
    """How scoring one thing ended."""

    SCORED = "scored"
    REFUSED = "refused"
    """The provider's filter, or the judge itself, declined to score it."""
    UNREADABLE = "unreadable"
    """Replies came, and none could be parsed."""
    ERROR = "error"
    """No reply came: connection, time-out, a server's error."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What a parser returns for a reply that holds no answer."""

    reason: str


Parse = Callable[[str], T | Unreadable]
"""A reply's text to its value; never raises."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer(Generic[T]):
    """The value that a judge, model or worker gives one image or question, or why there is none."""

    status: AnswerStatus
    value: T | None = None
    """There if and only if the status is ``scored``."""
    reason: str = ""
    """Why there is no value, in words."""
    reply: str = ""
    """The last raw reply, unchanged; empty when none came."""
    key: str = ""
    """Key of the last request in the reply cache."""
    model: str = ""
    """The judge as the server named it."""
    prompt_hash: str = ""
    """SHA-256 of the question's text; images do not enter."""
    replies: int = 0
    """How many were read, cached ones included."""


def parsed_answer(parsed: T | Unreadable, **known: Any) -> Answer[T]:
    """What a parser made of a reply, with what else is known about it."""
    if isinstance(parsed, Unreadable):
        return Answer(status=AnswerStatus.UNREADABLE, reason=parsed.reason, **known)
    return Answer(status=AnswerStatus.SCORED, value=parsed, **known)


def error_answer(error: Exception, model: str = "") -> Answer[Any]:
    """What a local model answers when it fails, in one line."""
    reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return Answer(status=AnswerStatus.ERROR, reason=reason, model=model)
