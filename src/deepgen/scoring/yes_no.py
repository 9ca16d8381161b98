"""Whether an image shows what its prompt asks for, by one yes-or-no question to a judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from deepgen.scoring.answers import Answer, Unreadable
from deepgen.scoring.judge import HttpJudge, Judge, JudgeConfig
from deepgen.scoring.parsing import parse_yes_no
from deepgen.scoring.questions import Question, png_image
from deepgen.scoring.reply_cache import ReplyCache
from deepgen.scoring.scorer import ScorerInput
from deepgen.scoring.templates import Template, parse_template
from deepgen.threads import bounded_map

QUESTION = (
    "Does the last image show everything that this prompt asks for? Answer with one word, yes or "
    "no.\n\nPrompt: {prompt}"
)


class YesNoScorer:
    """1 where a judge says yes, 0 where it says no.

    Args:
        judge: Sees the reference images first and the generated image last.
    """

    name = "yes_no"
    bounds = (0.0, 1.0)

    def __init__(self, judge: Judge, question: Template, *, concurrency: int = 1) -> None:
        self.judge = judge
        self.question = question
        self.concurrency = concurrency

    @property
    def identity(self) -> Mapping[str, str]:
        """The requested judge, and the hash of the question."""
        judge = self.judge
        # What the server calls its model is only known after a reply, and is in every answer.
        name = judge.config.model if isinstance(judge, HttpJudge) else judge.name
        return {"judge": name, "question_sha256": self.question.sha256}

    def score(self, inputs: Sequence[ScorerInput]) -> list[Answer[float]]:
        """Ask about each image; refusals and unreadable replies are failures."""
        return list(bounded_map(self._ask, inputs, workers=self.concurrency))

    def _ask(self, each: ScorerInput) -> Answer[float]:
        images = [png_image(image) for image in (*each.references, each.image)]
        text = self.question.fill({"prompt": each.prompt})
        return self.judge.ask(Question(parts=(*images, text)), _parse)


def create_scorer(
    *, url: str, model: str, cache: Path, question: str = QUESTION, concurrency: int = 16
) -> YesNoScorer:
    """A judge behind chat completions; its question has the slot ``{prompt}``."""
    config = JudgeConfig(base_url=url, model=model, concurrency=concurrency)
    judge = HttpJudge(config, ReplyCache(cache))
    return YesNoScorer(judge, parse_template(question), concurrency=concurrency)


def _parse(reply: str) -> float | Unreadable:
    found = parse_yes_no(reply)
    return found if isinstance(found, Unreadable) else float(found)
