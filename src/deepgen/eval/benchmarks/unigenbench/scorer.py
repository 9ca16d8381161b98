"""What UniGenBench asks a judge: 0 or 1 for every test point of a prompt, in one reply."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from deepgen.errors import BenchmarkError
from deepgen.eval.benchmark import Benchmark, Values
from deepgen.eval.judged.judging import Ask, Interview
from deepgen.eval.judged.wording import Wording
from deepgen.eval.scorer import Drawing
from deepgen.scoring.parsing import parse_check_points
from deepgen.scoring.questions import Question, jpeg_image, stored_image

EVALUATOR = "UniGenBench-EvalModel"
"""In the names of the authors' own judges, which were trained on images before the text."""


def unigenbench_interview(benchmark: Benchmark, wording: Wording, judge_model: str) -> Interview:
    """Text and the stored image; for the authors' evaluators a JPEG image and the text."""
    image_first = EVALUATOR.lower() in judge_model.lower()

    def asks(drawing: Drawing) -> Sequence[Ask]:
        fields = drawing.item.fields
        points: Sequence[str] = fields["testpoints"]
        if wording.terms and (unknown := set(points) - wording.terms.keys()):
            raise BenchmarkError(
                f"item {drawing.item.id}: {wording.origin} does not define the test point "
                f"{min(unknown)!r}"
            )
        general = [wording.terms.get(point, "") for point in points] if wording.terms else []
        text = wording.fill(
            "question",
            prompt=drawing.item.prompt,
            testpoints=str(list(points)),
            definitions=_listed(wording.fill("definitions"), points, general),
            descriptions=_listed(wording.fill("descriptions"), points, fields["descriptions"]),
        )
        if image_first:
            question = Question(parts=(jpeg_image(drawing.image, quality=95), text))
        else:
            question = Question(parts=(text, stored_image(drawing.path)))
        parse = partial(parse_check_points, count=len(points))
        return [Ask(name="test points", question=question, parse=parse)]

    def values(said: Sequence[Any]) -> Values:
        return {"scores": list(said[0].scores)}

    return Interview(wording=wording, asks=asks, values=values)


def _listed(heading: str, points: Sequence[str], meanings: Sequence[str]) -> str:
    """A heading and one line a test point in corner brackets; nothing where nothing is known."""
    if not meanings:
        return ""
    pairs = zip(points, meanings, strict=True)
    lines = "".join(f"\n{point}: {meaning}" for point, meaning in pairs)
    return f"{heading}:「{lines}\n」"
