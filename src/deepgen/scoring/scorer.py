"""One number for each image: the protocol that metrics and rewards share.

A scorer is named in ``scoring/registry.py``. What a judge, detector or OCR engine yields is richer;
a scorer reduces it to a number that can be averaged or maximised.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from PIL import Image

from deepgen.scoring.answers import Answer, AnswerStatus

ROUNDING = 1e-5
"""How far values may pass the bounds, relative to their distance: float32 cosines exceed 1."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ScorerInput:
    """A generated image and what was asked for."""

    image: Image.Image
    prompt: str
    target_texts: tuple[str, ...] = ()
    """Texts that must be legible in the image."""
    references: tuple[Image.Image, ...] = ()
    """Source images of an edit, in order; empty for text-to-image."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """JSON values that a particular scorer needs besides, such as the mini's scene."""


@runtime_checkable
class Scorer(Protocol):
    """Gives each image of a batch a number, higher for better."""

    @property
    def name(self) -> str:
        """Short, for tables and messages."""
        ...

    @property
    def identity(self) -> Mapping[str, str]:
        """Models, versions and settings: scores are comparable only where all of it is equal."""
        ...

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest possible value; infinite where there is no limit."""
        ...

    def score(self, inputs: Sequence[ScorerInput]) -> list[Answer[float]]:
        """One answer per input, in order; callable from several threads.

        A failure of one image is an answer without a value, never a number such as 0.

        Raises:
            ScorerError: No image can be scored any more, for example because a server is gone.
        """
        ...


def score_images(scorer: Scorer, inputs: Sequence[ScorerInput]) -> list[Answer[float]]:
    """Score images and turn values that cannot be right into failures.

    NaN, infinity, a value out of bounds and a wrong number of answers are ``unreadable``.

    Raises:
        ScorerError: No image can be scored any more.
    """
    answers = scorer.score(inputs)
    if len(answers) != len(inputs):
        reason = f"{scorer.name} gave {len(answers)} answers for {len(inputs)} images"
        return [Answer(status=AnswerStatus.UNREADABLE, reason=reason) for _ in inputs]
    return [_checked(answer, scorer) for answer in answers]


def _checked(answer: Answer[float], scorer: Scorer) -> Answer[float]:
    if answer.status is not AnswerStatus.SCORED:
        return answer
    value, (low, high) = answer.value, scorer.bounds
    slack = ROUNDING * (high - low) if math.isfinite(high - low) else 0.0
    if value is not None and math.isfinite(value) and low - slack <= value <= high + slack:
        return answer
    reason = f"{scorer.name} gave {value}, expected a number from {low:g} to {high:g}"
    return Answer(
        status=AnswerStatus.UNREADABLE, reason=reason, reply=answer.reply, model=answer.model
    )
