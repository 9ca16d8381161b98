"""Scoring by a judge: the questions a benchmark asks about an image, and what becomes of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepgen.errors import BenchmarkError, ImageError, ScorerError
from deepgen.eval.benchmark import Benchmark, ImageRecord, Status, Values
from deepgen.eval.fetch import cache_folder
from deepgen.eval.judged.wording import Wording
from deepgen.eval.scorer import Drawing, ScoringOptions
from deepgen.scoring import answers
from deepgen.scoring.answers import Answer, Parse
from deepgen.scoring.judge import HttpJudge, Judge, JudgeConfig
from deepgen.scoring.parsing import after_thinking
from deepgen.scoring.questions import Question
from deepgen.scoring.reply_cache import ReplyCache
from deepgen.scoring.scripted import ScriptedJudge

SCRIPTED = "scripted:"
"""Begins the address of a judge that answers from a file."""

REPLIES = "judge-replies.sqlite"
"""Store of replies in the user's own cache, where no other was named."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ask:
    """One question about one image."""

    name: str
    """What people call it."""
    question: Question
    parse: Parse[Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Interview:
    """All that a benchmark wants to know about an image."""

    wording: Wording
    asks: Callable[[Drawing], Sequence[Ask]]
    """Raises ImageError where an image it needs cannot be read, BenchmarkError where an item lacks
    what its questions are about."""
    values: Callable[[Sequence[Any]], Values]
    """From the answers, one a question; None stands for an unreadable one, and only where
    ``enough`` is given."""
    enough: Callable[[Sequence[Any]], bool] | None = None
    """Whether so many unreadable answers leave a score; None wants every answer."""
    max_tokens: tuple[int, ...] = (4096,)
    """Limits of a reply under the official protocol, and after a reply that was cut."""


class JudgeScorer:
    """A judge that is asked a benchmark's questions; may be used by many threads.

    The questions about one image are asked in turn, so that a server may reuse what it has read
    of the image; the first that comes to nothing ends the image.
    """

    def __init__(
        self, benchmark: Benchmark, interview: Interview, judge: Judge, *, concurrency: int = 1
    ) -> None:
        self.benchmark = benchmark
        self.interview = interview
        self.judge = judge
        self._concurrency = concurrency

    @property
    def identity(self) -> Mapping[str, str]:
        """Judge, sampling parameters and wording."""
        about = {
            "judge": self.judge.name,
            "questions": self.interview.wording.origin,
            "questions_sha256": self.interview.wording.sha256,
        }
        if isinstance(self.judge, HttpJudge):
            config = self.judge.config
            parameters = {**config.parameters, "max_tokens": list(config.max_tokens)}
            # As it was asked for: what the server calls itself is only known after a reply, and
            # stands in every record.
            about |= {"judge": config.model, "parameters": json.dumps(parameters, sort_keys=True)}
        return about

    @property
    def concurrency(self) -> int:
        """As many images as requests may be in flight."""
        return self._concurrency

    def check(self) -> None:
        """See that the judge answers and sees images."""
        if isinstance(self.judge, HttpJudge):
            self.judge.check()

    def __call__(self, drawing: Drawing) -> ImageRecord:
        """Ask all questions about one image."""
        try:
            asks = self.interview.asks(drawing)
        except (ImageError, BenchmarkError) as failure:
            return failed(drawing, "error", str(failure))
        found: list[Answer[Any]] = []
        for ask in asks:
            answer = self.judge.ask(ask.question, ask.parse)
            found.append(answer)
            missed = answer.status is answers.Status.UNREADABLE and self.interview.enough
            if answer.status is not answers.Status.SCORED and not missed:
                words = f": {answer.reply.strip()[:200]}" if answer.reply else ""
                reason = f"{ask.name}: {answer.reason}{words}"
                return failed(drawing, status_of(answer), reason)
        said = [answer.value for answer in found]
        # What it thought before may be long, and stays in the store of replies.
        told = [
            f"{ask.name}: {after_thinking(each.reply).strip()}"
            for ask, each in zip(asks, found, strict=True)
        ]
        enough = self.interview.enough is None or self.interview.enough(said)
        return ImageRecord(
            item=drawing.item.id,
            copy=drawing.copy,
            status="scored" if enough else "unreadable",
            values={**self.interview.values(said), "judge": found[0].model},
            reason="\n".join(told),
        )


def failed(drawing: Drawing, status: Status, reason: str) -> ImageRecord:
    """An image without a score, and why, in one line."""
    return ImageRecord(
        item=drawing.item.id,
        copy=drawing.copy,
        status=status,
        reason=" ".join(reason.split()),
    )


def status_of(answer: Answer[Any]) -> Status:
    """The same word for the same ending, of an answer and of an image."""
    statuses: dict[answers.Status, Status] = {
        answers.Status.SCORED: "scored",
        answers.Status.REFUSED: "refused",
        answers.Status.UNREADABLE: "unreadable",
        answers.Status.ERROR: "error",
    }
    return statuses[answer.status]


def open_judge(benchmark: Benchmark, options: ScoringOptions, max_tokens: tuple[int, ...]) -> Judge:
    """The judge that the user named.

    Temperature is 0, also where the official code leaves it to the server's default, unless the
    user has said otherwise.

    Raises:
        ScorerError: None was named, or what was named cannot be one.
    """
    url, model = options.judge_url, options.judge_model
    if url is not None and url.startswith(SCRIPTED):
        return ScriptedJudge.from_file(Path(url.removeprefix(SCRIPTED)))
    if url is None or model is None:
        absent = "--judge-url" if url is None else "--judge-model"
        raise ScorerError(
            f"{benchmark.name} is scored by a judge, and none was named: give {absent}, the "
            f"{'address' if url is None else 'name'} of a vision-language model behind an "
            f"OpenAI-compatible server (officially {benchmark.judge})"
        )
    parameters = {"temperature": 0, **options.judge_parameters}
    try:
        config = JudgeConfig(
            base_url=url,
            model=model,
            parameters={name: each for name, each in parameters.items() if each is not None},
            max_tokens=max_tokens,
            concurrency=options.judge_concurrency,
            timeout_seconds=options.judge_timeout_seconds,
        )
    except ValueError as cause:
        raise ScorerError(f"the judge cannot be asked: {cause}") from None
    return HttpJudge(config, ReplyCache(options.cache or cache_folder().parent / REPLIES))
