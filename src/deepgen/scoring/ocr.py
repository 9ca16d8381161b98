"""Whether an image shows the words it was asked for, by the rules of CVTG-2K.

The rules are pure functions over recognised text. What recognises it is an optional part, and so
belongs to the name of a score: engines differ by several points.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image

from deepgen.errors import ScorerError
from deepgen.scoring.answers import Answer, Status

# Keeps the official division by the longer length from being one by zero.
EPSILON = 1e-5


@dataclass(frozen=True, kw_only=True, slots=True)
class WordScore:
    """How well one image's target words were recognised; sums, so that images can be pooled."""

    targets: int
    found: int
    """Targets that were recognised letter by letter."""
    similarity: float
    """Sum over the targets of the normalised edit similarity to the closest recognised word, where
    closest is by difflib's ratio: the official choice."""
    best_similarity: float
    """The same with the recognised word that is closest in edits."""
    extra: int
    """Recognised words that are no target."""


def target_words(prompt: str) -> list[str]:
    """The words that a prompt wants to see: all between pairs of straight single quotes."""
    quoted = re.findall(r"'(.*?)'", prompt, re.DOTALL)
    return [word for text in quoted for word in text.lower().split()]


def recognized_words(lines: Sequence[str]) -> list[str]:
    """Recognised lines as words; one empty word where nothing was recognised."""
    return [word for line in lines for word in line.lower().split()] or [""]


def score_words(targets: Sequence[str], recognized: Sequence[str]) -> WordScore:
    """Compare one image's target words with its recognised ones.

    A target counts as found if it is anywhere among the recognised words, so one word recognised
    once serves all its repetitions.

    Args:
        targets: Of :func:`target_words`.
        recognized: Of :func:`recognized_words`; never empty.
    """
    return WordScore(
        targets=len(targets),
        found=sum(word in recognized for word in targets),
        similarity=sum(edit_similarity(word, _closest(word, recognized)) for word in targets),
        best_similarity=sum(
            max(edit_similarity(word, each) for each in recognized) for word in targets
        ),
        extra=sum(word != "" and word not in targets for word in recognized),
    )


def word_accuracy(scores: Sequence[WordScore]) -> float:
    """Share of target words that were found, over all images together.

    Raises:
        ValueError: There are no target words.
    """
    return sum(score.found for score in scores) / _all_targets(scores)


def mean_similarity(scores: Sequence[WordScore], *, best: bool = False) -> float:
    """NED: the mean over all target words of all images, 1 where every word is right.

    Args:
        best: Against the word closest in edits; the official score is against difflib's choice.

    Raises:
        ValueError: There are no target words.
    """
    total = sum(score.best_similarity if best else score.similarity for score in scores)
    return total / _all_targets(scores)


def edit_similarity(first: str, second: str) -> float:
    """``1 - distance / (longer length + 1e-5)``."""
    return 1 - edit_distance(first, second) / (max(len(first), len(second)) + EPSILON)


def edit_distance(first: str, second: str) -> int:
    """How many letters must be put in, left out or replaced (Levenshtein)."""
    row = list(range(len(second) + 1))
    for i, letter in enumerate(first, start=1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(second, start=1):
            diagonal, row[j] = (
                row[j],
                min(row[j] + 1, row[j - 1] + 1, diagonal + (letter != other)),
            )
    return row[-1]


@runtime_checkable
class TextReader(Protocol):
    """Recognises text in images."""

    @property
    def name(self) -> str:
        """Engine and version, which belong to the name of every score."""
        ...

    def read(self, image: Image.Image) -> Answer[list[str]]:
        """The lines that it sees, in its own order; an empty list where there is no text.

        Never raises for one image's sake: that is an answer with the status ``error``.
        """
        ...


class RapidOcrReader:
    """rapidocr with the models of its own package: works offline, on a CPU.

    Raises:
        ScorerError: It is not installed.
    """

    def __init__(self) -> None:
        try:
            import rapidocr
        except ImportError as error:
            raise ScorerError(
                f"reading text needs rapidocr ({error}); install it with "
                'pip install "deepgen-image[ocr]"'
            ) from None
        from importlib.metadata import version

        # It reports every image without text as a warning otherwise.
        self._engine: Any = rapidocr.RapidOCR(params={"Global.log_level": "error"})
        self._name = f"rapidocr-{version('rapidocr')}"

    @property
    def name(self) -> str:
        """Engine and version."""
        return self._name

    def read(self, image: Image.Image) -> Answer[list[str]]:
        """The recognised lines."""
        blue_first = np.ascontiguousarray(np.asarray(image.convert("RGB"))[:, :, ::-1])
        try:
            lines = list(self._engine(blue_first).txts or ())
        except Exception as error:  # It names none of its own.
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            return Answer(status=Status.ERROR, reason=reason, model=self.name)
        return Answer(status=Status.SCORED, value=lines, model=self.name)


def _closest(word: str, recognized: Sequence[str]) -> str:
    return get_close_matches(word, recognized, n=1, cutoff=0)[0]


def _all_targets(scores: Sequence[WordScore]) -> int:
    count = sum(score.targets for score in scores)
    if count == 0:
        raise ValueError("there are no target words to score; expected some between single quotes")
    return count
