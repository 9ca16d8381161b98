"""Scoring by a judge: the questions of a benchmark's protocol, and a record from the replies."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepgen.errors import BenchmarkError, ImageError, ScorerError
from deepgen.eval.benchmark import Benchmark, ImageRecord, Values
from deepgen.eval.fetch import cache_folder
from deepgen.eval.judge.prompts import JudgePrompts, load_judge_prompts
from deepgen.eval.scorer import GeneratedImage, ImageScorer, ScoringOptions, status_of
from deepgen.scoring.answers import Answer, AnswerStatus, Parse
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
class JudgeQuestion:
    """One question about one image."""

    name: str
    question: Question
    parse: Parse[Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgeProtocol:
    """How a benchmark has a judge score an image."""

    prompts: JudgePrompts
    questions: Callable[[GeneratedImage], Sequence[JudgeQuestion]]
    """Raises ImageError where an image it needs cannot be read, BenchmarkError where an item lacks
    what its questions are about."""
    values: Callable[[Sequence[Any]], Values]
    """From the parsed answers, one a question; None stands for an unreadable one, and only where
    ``has_score`` is given."""
    has_score: Callable[[Sequence[Any]], bool] | None = None
    """Whether so many unreadable answers leave a score; None wants every answer."""
    max_tokens: tuple[int, ...] = (4096,)
    """Limits of a reply under the official protocol, and after a reply that was cut."""


LoadProtocol = Callable[[Benchmark, JudgePrompts, ScoringOptions], JudgeProtocol]


class JudgeScorer(ImageScorer):
    """A judge under a benchmark's protocol; may be used by many threads.

    The questions about one image are asked in turn, so that a server may reuse what it has read
    of the image; the first that fails ends the image.
    """

    def __init__(self, protocol: JudgeProtocol, judge: Judge, *, concurrency: int = 1) -> None:
        prompts = protocol.prompts
        super().__init__(
            _identity(judge, prompts),
            concurrency=concurrency,
            notes=(prompts.note,) if prompts.note else (),
        )
        self.protocol = protocol
        self.judge = judge

    def check(self) -> None:
        """See that the judge answers and sees images."""
        if isinstance(self.judge, HttpJudge):
            self.judge.check()

    def __call__(self, generated: GeneratedImage) -> ImageRecord:
        """Ask all questions about one image."""
        try:
            questions = self.protocol.questions(generated)
        except (ImageError, BenchmarkError) as failure:
            return generated.failed("error", str(failure))
        found: list[Answer[Any]] = []
        for each in questions:
            answer = self.judge.ask(each.question, each.parse)
            found.append(answer)
            tolerated = answer.status is AnswerStatus.UNREADABLE and self.protocol.has_score
            if answer.status is not AnswerStatus.SCORED and not tolerated:
                reply = f": {answer.reply.strip()[:200]}" if answer.reply else ""
                reason = f"{each.name}: {answer.reason}{reply}"
                return generated.failed(status_of(answer), reason)
        answers = [answer.value for answer in found]
        # The reasoning before a reply may be long, and stays in the store of replies.
        replies = [
            f"{each.name}: {after_thinking(answer.reply).strip()}"
            for each, answer in zip(questions, found, strict=True)
        ]
        has_score = self.protocol.has_score is None or self.protocol.has_score(answers)
        return ImageRecord(
            item=generated.item.id,
            image_index=generated.image_index,
            status="scored" if has_score else "unreadable",
            values={**self.protocol.values(answers), "judge": found[0].model},
            reason="\n".join(replies),
        )


def create_judge_scorer(
    benchmark: Benchmark, options: ScoringOptions, load_protocol: LoadProtocol
) -> JudgeScorer:
    """The judge that the user named, under a benchmark's protocol.

    Raises:
        ScorerError: No judge was named, or the judge prompts are missing.
    """
    protocol = load_protocol(benchmark, load_judge_prompts(benchmark, options), options)
    judge = create_judge(benchmark, options, protocol.max_tokens)
    return JudgeScorer(protocol, judge, concurrency=options.judge_concurrency)


def _identity(judge: Judge, prompts: JudgePrompts) -> Mapping[str, str]:
    """Judge, sampling parameters and prompts."""
    about = {
        "judge": judge.name,
        "judge_prompts": prompts.origin,
        "judge_prompts_sha256": prompts.sha256,
    }
    if isinstance(judge, HttpJudge):
        config = judge.config
        parameters = {**config.parameters, "max_tokens": list(config.max_tokens)}
        # The name that was asked for: the server's own is only known after a reply, and stands in
        # every record.
        about |= {"judge": config.model, "parameters": json.dumps(parameters, sort_keys=True)}
    return about


def create_judge(
    benchmark: Benchmark, options: ScoringOptions, max_tokens: tuple[int, ...]
) -> Judge:
    """The judge that the user named.

    Temperature is 0, also where the official code leaves it to the server's default, unless the
    user sets another.

    Raises:
        ScorerError: None was named, or what was named cannot be one.
    """
    url, model = options.judge_url, options.judge_model
    if url is not None and url.startswith(SCRIPTED):
        return ScriptedJudge.from_file(Path(url.removeprefix(SCRIPTED)))
    if url is None or model is None:
        absent = "--judge-url" if url is None else "--judge-model"
        raise ScorerError(
            f"{benchmark.name} is scored by a judge, and none was named: use {absent}, the "
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
