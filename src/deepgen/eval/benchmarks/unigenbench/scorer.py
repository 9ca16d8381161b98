"""UniGenBench's judge protocol: 0 or 1 for every test point of a prompt, in one reply."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from deepgen.errors import BenchmarkError
from deepgen.eval.benchmark import Benchmark
from deepgen.eval.judge.prompts import JudgePrompts
from deepgen.eval.judge.scorer import JudgeProtocol, JudgeQuestion
from deepgen.eval.scorer import GeneratedImage, ScoringOptions
from deepgen.scoring.parsing import parse_check_points
from deepgen.scoring.questions import Question, jpeg_image, stored_image

EVALUATOR = "UniGenBench-EvalModel"
"""In the names of the authors' own judges, which were trained on images before the text."""


def load_protocol(
    benchmark: Benchmark, prompts: JudgePrompts, options: ScoringOptions
) -> JudgeProtocol:
    """Text and the stored image; for the authors' evaluators a JPEG image and the text."""
    image_first = EVALUATOR.lower() in (options.judge_model or "").lower()

    def questions(generated: GeneratedImage) -> Sequence[JudgeQuestion]:
        fields = generated.item.fields
        points: Sequence[str] = fields["testpoints"]
        if prompts.terms and (unknown := set(points) - prompts.terms.keys()):
            raise BenchmarkError(
                f"item {generated.item.id}: {prompts.origin} does not define the test point "
                f"{min(unknown)!r}"
            )
        general = [prompts.terms.get(point, "") for point in points] if prompts.terms else []
        text = prompts.fill(
            "question",
            prompt=generated.item.prompt,
            testpoints=str(list(points)),
            definitions=_listed(prompts.fill("definitions"), points, general),
            descriptions=_listed(prompts.fill("descriptions"), points, fields["descriptions"]),
        )
        if image_first:
            question = Question(parts=(jpeg_image(generated.image, quality=95), text))
        else:
            question = Question(parts=(text, stored_image(generated.path)))
        parse = partial(parse_check_points, count=len(points))
        return [JudgeQuestion(name="test points", question=question, parse=parse)]

    return JudgeProtocol(
        prompts=prompts,
        questions=questions,
        values=lambda answers: {"scores": list(answers[0].scores)},
    )


def _listed(heading: str, points: Sequence[str], meanings: Sequence[str]) -> str:
    """A heading and one line a test point in corner brackets; nothing where nothing is known."""
    if not meanings:
        return ""
    pairs = zip(points, meanings, strict=True)
    lines = "".join(f"\n{point}: {meaning}" for point, meaning in pairs)
    return f"{heading}:「{lines}\n」"
