"""WISE's judge protocol: three scores from 0 to 2 (legacy), or one verdict (verified)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from deepgen.eval.benchmark import Benchmark, Values
from deepgen.eval.judge.prompts import JudgePrompts
from deepgen.eval.judge.scorer import JudgeProtocol, JudgeQuestion
from deepgen.eval.scorer import GeneratedImage, ScoringOptions
from deepgen.scoring.parsing import parse_wise_legacy, parse_wise_verified
from deepgen.scoring.questions import Question, stored_image


def load_protocol(
    benchmark: Benchmark, prompts: JudgePrompts, options: ScoringOptions
) -> JudgeProtocol:
    """The image as it is stored, after the text."""
    legacy = benchmark.name == "wise/legacy"

    def questions(generated: GeneratedImage) -> Sequence[JudgeQuestion]:
        fields = generated.item.fields
        text = prompts.fill(
            "question" if legacy else "verdict",
            prompt=fields["Prompt"],
            explanation=fields["Explanation"],
        )
        question = Question(
            parts=(text, stored_image(generated.path)), system=prompts.fill("system")
        )
        parse = parse_wise_legacy if legacy else parse_wise_verified
        return [
            JudgeQuestion(name="scores" if legacy else "verdict", question=question, parse=parse)
        ]

    def values(answers: Sequence[Any]) -> Values:
        return asdict(answers[0]) if legacy else {"score": answers[0]}

    # Thinking before a verdict takes more than the official limit, so a cut reply gets another.
    limits = (2000,) if legacy else (500, 2048, 8192)
    return JudgeProtocol(prompts=prompts, questions=questions, values=values, max_tokens=limits)
