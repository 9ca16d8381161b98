"""What ImgEdit-Bench asks a judge: three criteria from 1 to 5, by the rubric of the edit's type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deepgen.eval.benchmark import Benchmark, Values
from deepgen.eval.judged.edited import source_of
from deepgen.eval.judged.judging import Ask, Interview
from deepgen.eval.judged.wording import Wording
from deepgen.eval.scorer import Drawing
from deepgen.scoring.parsing import parse_criteria
from deepgen.scoring.questions import Question, stored_image


def imgedit_interview(benchmark: Benchmark, wording: Wording) -> Interview:
    """The rubric, then source and result as they are stored."""

    def asks(drawing: Drawing) -> Sequence[Ask]:
        rubric = wording.fill(drawing.item.category, instruction=drawing.item.prompt)
        before, after = stored_image(source_of(drawing)), stored_image(drawing.path)
        question = Question(parts=(rubric, before, after))
        return [Ask(name="criteria", question=question, parse=parse_criteria)]

    def values(said: Sequence[Any]) -> Values:
        return {"scores": list(said[0])}

    return Interview(wording=wording, asks=asks, values=values)
