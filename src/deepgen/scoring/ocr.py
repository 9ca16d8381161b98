"""Whether an image shows the words of its prompt, by the rules of CVTG-2K (arXiv 2503.23461).

The rules are pure functions of recognised text. The OCR engine is optional and part of the identity
of a score: engines differ by several points.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image
from rapidfuzz.distance import Levenshtein

from deepgen.errors import ScorerError
from deepgen.scoring.answers import Answer, AnswerStatus, error_answer
from deepgen.scoring.remote import RemoteTextReader, Worker, WorkerConfig
from deepgen.scoring.scorer import ScorerInput

# Of the official formula: avoids a division by zero.
_EPSILON = 1e-5

_QUOTED = re.compile(r"'(.*?)'", re.DOTALL)


@dataclass(frozen=True, kw_only=True, slots=True)
class WordScore:
    """How well one image's target words were recognised; sums, so that images can be pooled."""

    lines: list[str]
    """As the engine read them."""
    words: int
    """Targets."""
    found: int
    """Targets among the recognised words; one that occurs twice needs to be read once."""
    ned: float
    """Sum over the targets of ``1 - distance / (longer length + 1e-5)`` to the closest recognised
    word, where closest is by difflib's ratio: the official choice."""
    ned_closest: float
    """The same with the recognised word of the smallest edit distance."""
    extra: int
    """Recognised words that are not targets."""


def target_words(prompt: str) -> list[str]:
    """What is to be written: everything between straight single quotes, in lower case."""
    return _words(_QUOTED.findall(prompt))


def score_words(targets: Sequence[str], lines: Sequence[str]) -> WordScore:
    """Compare target words, in lower case, with the lines that an OCR engine read."""
    words = _words(lines) or [""]
    # Not by sum(), which rounds differently from Python 3.12 on.
    ned = closest = 0.0
    for target in targets:
        (nearest,) = get_close_matches(target, words, n=1, cutoff=0)
        ned += _similarity(target, nearest)
        closest += max(_similarity(target, word) for word in words)
    return WordScore(
        lines=list(lines),
        words=len(targets),
        found=sum(target in words for target in targets),
        ned=ned,
        ned_closest=closest,
        extra=sum(word not in targets for word in words if word),
    )


def _words(texts: Sequence[str]) -> list[str]:
    return [word for text in texts for word in text.lower().split()]


def _similarity(first: str, second: str) -> float:
    longer = max(len(first), len(second))
    return 1 - Levenshtein.distance(first, second) / (longer + _EPSILON)


@runtime_checkable
class TextReader(Protocol):
    """Recognises text in images."""

    @property
    def name(self) -> str:
        """Engine and version, which belong to the name of every score."""
        ...

    def read(self, image: Image.Image) -> Answer[list[str]]:
        """The recognised lines, in the engine's order; an empty list where there is no text.

        A failure on one image is an answer with the status ``error``.
        """
        ...


class RapidOcrReader:
    """rapidocr with the models of its package: works offline, on a CPU.

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

        # By default it warns of every image without text.
        self._engine: Any = rapidocr.RapidOCR(params={"Global.log_level": "error"})
        self.name = f"rapidocr-{version('rapidocr')}"
        self._lock = threading.Lock()

    def read(self, image: Image.Image) -> Answer[list[str]]:
        """The recognised lines."""
        blue_first = np.ascontiguousarray(np.asarray(image.convert("RGB"))[:, :, ::-1])
        try:
            with self._lock:
                lines = list(self._engine(blue_first).txts or ())
        except Exception as error:  # It defines none of its own.
            return error_answer(error, self.name)
        return Answer(status=AnswerStatus.SCORED, value=lines, model=self.name)


class WordAccuracy:
    """Fraction of the target words that an OCR engine reads, by CVTG-2K's rule."""

    name = "ocr"
    bounds = (0.0, 1.0)

    def __init__(self, reader: TextReader) -> None:
        self.reader = reader

    @property
    def identity(self) -> Mapping[str, str]:
        """Engine and version."""
        return {"ocr": self.reader.name}

    def score(self, inputs: Sequence[ScorerInput]) -> list[Answer[float]]:
        """``found / words`` per image; without target texts there is nothing to score."""
        return [self._accuracy(each) for each in inputs]

    def _accuracy(self, each: ScorerInput) -> Answer[float]:
        if not _words(each.target_texts):
            return Answer(status=AnswerStatus.ERROR, reason="there are no target texts to read")
        measured = self.measure(each)
        score = measured.value
        value = None if score is None else score.found / score.words
        return Answer(
            status=measured.status, value=value, reason=measured.reason, model=measured.model
        )

    def measure(self, each: ScorerInput) -> Answer[WordScore]:
        """All counts of one image."""
        read = self.reader.read(each.image)
        if read.status is not AnswerStatus.SCORED:
            return Answer(status=read.status, reason=read.reason, model=self.reader.name)
        score = score_words(_words(each.target_texts), read.value or [])
        return Answer(status=AnswerStatus.SCORED, value=score, model=self.reader.name)


def create_scorer(*, worker_url: str = "") -> WordAccuracy:
    """Word accuracy by rapidocr, or by the engine of a worker.

    Raises:
        ScorerError: rapidocr is not installed, or the worker does not answer.
    """
    if worker_url:
        return WordAccuracy(RemoteTextReader(Worker(WorkerConfig(base_url=worker_url))))
    return WordAccuracy(RapidOcrReader())
