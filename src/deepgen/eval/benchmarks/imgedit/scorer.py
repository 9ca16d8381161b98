"""ImgEdit-Bench's judge protocol: three criteria from 1 to 5, by the rubric of the edit's type."""

from __future__ import annotations

from collections.abc import Sequence

from deepgen.eval.benchmark import Benchmark
from deepgen.eval.judge.prompts import JudgePrompts
from deepgen.eval.judge.scorer import JudgeProtocol, JudgeQuestion
from deepgen.eval.judge.source_images import source_of
from deepgen.eval.scorer import GeneratedImage, ScoringOptions
from deepgen.scoring.parsing import parse_criteria
from deepgen.scoring.questions import Question, stored_image


def load_protocol(
    benchmark: Benchmark, prompts: JudgePrompts, options: ScoringOptions
) -> JudgeProtocol:
    """The rubric, then source and result as they are stored."""

    def questions(generated: GeneratedImage) -> Sequence[JudgeQuestion]:
        rubric = prompts.fill(generated.item.category, instruction=generated.item.prompt)
        before, after = stored_image(source_of(generated)), stored_image(generated.path)
        question = Question(parts=(rubric, before, after))
        return [JudgeQuestion(name="criteria", question=question, parse=parse_criteria)]

    return JudgeProtocol(
        prompts=prompts, questions=questions, values=lambda answers: {"scores": list(answers[0])}
    )
