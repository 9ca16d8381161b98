"""T2I-CoReBench's judge protocol: one yes-or-no question a call, a checklist per image."""

from __future__ import annotations

from collections.abc import Sequence

from deepgen.errors import BenchmarkError
from deepgen.eval.benchmark import Benchmark
from deepgen.eval.benchmarks.corebench.benchmark import status_of
from deepgen.eval.judge.prompts import JudgePrompts
from deepgen.eval.judge.scorer import JudgeProtocol, JudgeQuestion
from deepgen.eval.scorer import GeneratedImage, ScoringOptions
from deepgen.scoring.parsing import parse_yes_no
from deepgen.scoring.questions import Question, stored_image


def load_protocol(
    benchmark: Benchmark, prompts: JudgePrompts, options: ScoringOptions
) -> JudgeProtocol:
    """The image as it is stored, then the prompt and one question; rules as a system message."""

    def questions(generated: GeneratedImage) -> Sequence[JudgeQuestion]:
        checklist = generated.item.fields["questions"]
        if not checklist:
            raise BenchmarkError(f"item {generated.item.id} has an empty checklist")
        image = stored_image(generated.path)
        return [
            JudgeQuestion(
                name=question,
                question=Question(
                    parts=(image, f'Prompt: "{generated.item.prompt}"\nQuestion: "{question}"'),
                    system=prompts.fill("system"),
                ),
                parse=parse_yes_no,
            )
            for question in checklist
        ]

    return JudgeProtocol(
        prompts=prompts,
        questions=questions,
        values=lambda answers: {"answers": list(answers)},
        has_score=lambda answers: status_of(answers) == "scored",
        max_tokens=(512, 2048, 8192),
    )
