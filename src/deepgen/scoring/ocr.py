"""Whether an image shows the words of its prompt, by the rules of CVTG-2K (arXiv 2503.23461), and
how closely it does, by edit distances.

The rules are pure functions of recognised text. The OCR engine is optional and part of the identity
of a score: engines differ by several points.
"""

from __future__ import annotations

import queue
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from typing import Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rapidfuzz.distance import Levenshtein

from deepgen.config.checks import check_at_least, check_fraction
from deepgen.errors import ScorerError
from deepgen.extras import install_line
from deepgen.scoring.answers import Answer, AnswerStatus, error_answer
from deepgen.scoring.remote import RemoteTextReader, Worker, WorkerConfig
from deepgen.scoring.scorer import ScorerInput
from deepgen.threads import bounded_map

# Of the official formula: avoids a division by zero.
_EPSILON = 1e-5

# Words of a target may be recognised as up to so many separate pieces.
_ADJACENT = 4

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


def text_similarity(
    targets: Sequence[str],
    lines: Sequence[str],
    *,
    ignore_case: bool = True,
    spam_penalty: float = 0.0,
) -> float:
    """How closely recognised text has all targets, from 0 to 1, by edit distances.

    Compared are letters and digits of any script, after NFKC, without white space::

        1 - sum_j d_j / sum_j |t_j|,  d_j = min over c of Levenshtein(c, t_j), at most |t_j|

    where c runs over all sequences of adjacent words in reading order, up to four or as many as the
    longest target has, and all words together.

    Args:
        spam_penalty: How much text beyond the targets costs: the result is multiplied by ``1 -
            spam_penalty * extra / (extra + matched)``, in letters.

    Raises:
        ValueError: No target has a letter or digit.
    """
    wanted = [letters_of(each, ignore_case=ignore_case) for each in targets]
    wanted = [each for each in wanted if each]
    if not wanted:
        raise ValueError(f"the target texts {list(targets)} have no letter or digit")
    words = [letters_of(word, ignore_case=ignore_case) for line in lines for word in line.split()]
    words = [word for word in words if word]
    longest = max(_ADJACENT, *(len(each.split()) for each in targets))
    candidates = {
        "".join(words[start : start + length])
        for length in (*range(1, longest + 1), len(words))
        for start in range(len(words) - length + 1)
    }
    total, matched = sum(map(len, wanted)), 0
    for target in wanted:
        distances = [
            Levenshtein.distance(each, target, score_cutoff=len(target)) for each in candidates
        ]
        matched += len(target) - min([*distances, len(target)])
    extra = max(0, sum(map(len, words)) - matched)
    spam = spam_penalty * extra / (extra + matched) if extra else 0.0
    return matched / total * (1 - spam)


def letters_of(text: str, *, ignore_case: bool = True) -> str:
    """Letters and digits of a text, after NFKC."""
    folded = unicodedata.normalize("NFKC", text)
    folded = folded.casefold() if ignore_case else folded
    return "".join(letter for letter in folded if letter.isalnum())


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

    Args:
        engines: Images that may be read at a time.

    Raises:
        ScorerError: It is not installed.
    """

    def __init__(self, engines: int = 1) -> None:
        try:
            import rapidocr
        except ImportError as error:
            raise ScorerError(
                f"reading text needs rapidocr ({error}); install it with {install_line('ocr')}"
            ) from None
        from importlib.metadata import version

        self._free: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(engines):
            # By default it warns of every image without text.
            self._free.put(rapidocr.RapidOCR(params={"Global.log_level": "error"}))
        self.name = f"rapidocr-{version('rapidocr')}"

    def read(self, image: Image.Image) -> Answer[list[str]]:
        """The recognised lines."""
        blue_first = np.ascontiguousarray(np.asarray(image.convert("RGB"))[:, :, ::-1])
        engine = self._free.get()
        try:
            lines = list(engine(blue_first).txts or ())
        except Exception as error:  # It defines none of its own.
            return error_answer(error, self.name)
        finally:
            self._free.put(engine)
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


class TextSimilarity:
    """How closely the recognised text has the target texts; see :func:`text_similarity`.

    Args:
        spam_penalty: See there.
        concurrency: Images that are read at a time.
    """

    name = "text_similarity"
    bounds = (0.0, 1.0)

    def __init__(
        self, reader: TextReader, *, spam_penalty: float = 0.0, concurrency: int = 1
    ) -> None:
        check_fraction("spam_penalty", spam_penalty)
        check_at_least("concurrency", concurrency, 1)
        self.reader = reader
        self.concurrency = concurrency
        self.spam_penalty = spam_penalty

    @property
    def identity(self) -> Mapping[str, str]:
        """Engine and version, and the penalty."""
        return {"ocr": self.reader.name, "spam_penalty": f"{self.spam_penalty:g}"}

    def score(self, inputs: Sequence[ScorerInput]) -> list[Answer[float]]:
        """One similarity per image; without target texts there is nothing to score."""
        return list(bounded_map(self._similarity, inputs, workers=self.concurrency))

    def check(self) -> None:
        """Read a text that was written for it.

        Raises:
            ScorerError: It is not what was read.
        """
        image = Image.new("RGB", (320, 96), "white")
        ImageDraw.Draw(image).text((24, 20), "OPEN 24", "black", ImageFont.load_default(48))
        (answer,) = self.score([ScorerInput(image=image, prompt="", target_texts=("OPEN 24",))])
        if answer.value != 1:
            found = answer.reason or f"a similarity of {answer.value}"
            raise ScorerError(
                f"{self.reader.name} cannot read a plain 'OPEN 24' ({found}); repair its "
                "installation, or use another engine"
            )

    def _similarity(self, each: ScorerInput) -> Answer[float]:
        if not any(letters_of(text) for text in each.target_texts):
            reason = "there are no target texts with a letter or digit"
            return Answer(status=AnswerStatus.ERROR, reason=reason)
        read = self.reader.read(each.image)
        if read.status is not AnswerStatus.SCORED:
            return Answer(status=read.status, reason=read.reason, model=self.reader.name)
        value = text_similarity(each.target_texts, read.value or [], spam_penalty=self.spam_penalty)
        return Answer(status=AnswerStatus.SCORED, value=value, model=self.reader.name)


def has_rapidocr() -> bool:
    """Whether rapidocr is installed."""
    return find_spec("rapidocr") is not None


def create_reader(worker_url: str = "", *, concurrency: int = 1) -> TextReader:
    """rapidocr, or the engine of a worker.

    Args:
        concurrency: Images that may be read at a time.

    Raises:
        ScorerError: rapidocr is not installed, or the worker does not answer.
    """
    if worker_url:
        config = WorkerConfig(base_url=worker_url, concurrency=concurrency)
        return RemoteTextReader(Worker(config))
    return RapidOcrReader(concurrency)


def create_scorer(*, worker_url: str = "") -> WordAccuracy:
    """Word accuracy by rapidocr, or by the engine of a worker.

    Raises:
        ScorerError: rapidocr is not installed, or the worker does not answer.
    """
    return WordAccuracy(create_reader(worker_url))
