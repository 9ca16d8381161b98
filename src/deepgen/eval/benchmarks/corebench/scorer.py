"""What T2I-CoReBench asks a judge: one yes-or-no question a call, a checklist per image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deepgen.errors import BenchmarkError
from deepgen.eval.benchmark import Benchmark, Values
from deepgen.eval.benchmarks.corebench.benchmark import status_of
from deepgen.eval.judged.judging import Ask, Interview
from deepgen.eval.judged.wording import Wording
from deepgen.eval.scorer import Drawing
from deepgen.scoring.parsing import parse_yes_no
from deepgen.scoring.questions import Question, stored_image


def corebench_interview(benchmark: Benchmark, wording: Wording) -> Interview:
    """The image as it is stored, then the prompt and one question; rules as a system message."""

    def asks(drawing: Drawing) -> Sequence[Ask]:
        questions = drawing.item.fields["questions"]
        if not questions:
            raise BenchmarkError(f"item {drawing.item.id} has an empty checklist")
        image = stored_image(drawing.path)
        return [
            Ask(
                name=question,
                question=Question(
                    parts=(image, f'Prompt: "{drawing.item.prompt}"\nQuestion: "{question}"'),
                    system=wording.fill("system"),
                ),
                parse=parse_yes_no,
            )
            for question in questions
        ]

    def values(said: Sequence[Any]) -> Values:
        return {"answers": list(said)}

    return Interview(
        wording=wording,
        asks=asks,
        values=values,
        enough=lambda said: status_of(said) == "scored",
        max_tokens=(512, 2048, 8192),
    )
