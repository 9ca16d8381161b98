"""UniREditBench's judge protocol: consistency, reasoning beside a right result, and quality."""

from __future__ import annotations

from collections.abc import Sequence

from deepgen.eval.benchmark import Benchmark
from deepgen.eval.benchmarks.uniredit.benchmark import JUDGED
from deepgen.eval.judge.prompts import JudgePrompts
from deepgen.eval.judge.scorer import JudgeProtocol, JudgeQuestion
from deepgen.eval.judge.source_images import beside_source, shrunk_image, source_of
from deepgen.eval.scorer import GeneratedImage, ScoringOptions
from deepgen.images.io import read_image
from deepgen.scoring.parsing import parse_uniredit
from deepgen.scoring.questions import Question


def load_protocol(
    benchmark: Benchmark, prompts: JudgePrompts, options: ScoringOptions
) -> JudgeProtocol:
    """Images as in RISEBench; the reasoning sees source, right result and result."""

    def questions(generated: GeneratedImage) -> Sequence[JudgeQuestion]:
        fields = generated.item.fields
        right = beside_source(generated, fields["reference_image"])
        before, reference = (
            shrunk_image(read_image(path)) for path in (source_of(generated), right)
        )
        after = shrunk_image(generated.image)
        shown = {
            "consistency": (before, after),
            "reasoning": (before, reference, after),
            "quality": (after,),
        }
        about = {
            "instruction": fields["judge_instruction"],
            "reference": fields.get("reference_effect") or "",
        }
        return [
            JudgeQuestion(
                name=name,
                question=Question(parts=(prompts.fill(name, **about), *images)),
                parse=parse_uniredit,
            )
            for name, images in shown.items()
        ]

    return JudgeProtocol(
        prompts=prompts,
        questions=questions,
        values=lambda answers: dict(zip(JUDGED, answers, strict=True)),
    )
