"""What WISE asks a judge: three scores from 0 to 2 (legacy), or one verdict (verified)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from deepgen.eval.benchmark import Benchmark, Values
from deepgen.eval.judged.judging import Ask, Interview
from deepgen.eval.judged.wording import Wording
from deepgen.eval.scorer import Drawing
from deepgen.scoring.parsing import parse_wise_legacy, parse_wise_verified
from deepgen.scoring.questions import Question, stored_image


def wise_interview(benchmark: Benchmark, wording: Wording) -> Interview:
    """The image as it is stored, after the text."""
    legacy = benchmark.name == "wise/legacy"

    def asks(drawing: Drawing) -> Sequence[Ask]:
        fields = drawing.item.fields
        text = wording.fill(
            "question" if legacy else "verdict",
            prompt=fields["Prompt"],
            explanation=fields["Explanation"],
        )
        question = Question(parts=(text, stored_image(drawing.path)), system=wording.fill("system"))
        parse = parse_wise_legacy if legacy else parse_wise_verified
        return [Ask(name="scores" if legacy else "verdict", question=question, parse=parse)]

    def values(said: Sequence[Any]) -> Values:
        return asdict(said[0]) if legacy else {"score": said[0]}

    # Thinking before a verdict takes more than the official limit, so a cut reply gets another.
    limits = (2000,) if legacy else (500, 2048, 8192)
    return Interview(wording=wording, asks=asks, values=values, max_tokens=limits)
