"""What UniREditBench asks a judge: consistency, reasoning beside a right result, and quality."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deepgen.eval.benchmark import Benchmark, Values
from deepgen.eval.benchmarks.rise.scorer import shrunk_image
from deepgen.eval.judged.edited import beside_source, source_of
from deepgen.eval.judged.judging import Ask, Interview
from deepgen.eval.judged.wording import Wording
from deepgen.eval.scorer import Drawing
from deepgen.images.io import read_image
from deepgen.scoring.parsing import parse_uniredit
from deepgen.scoring.questions import Question


def uniredit_interview(benchmark: Benchmark, wording: Wording) -> Interview:
    """Images as in RISEBench; the reasoning sees source, right result and result."""

    def asks(drawing: Drawing) -> Sequence[Ask]:
        fields = drawing.item.fields
        right = beside_source(drawing, fields["reference_image"])
        before, reference = (shrunk_image(read_image(path)) for path in (source_of(drawing), right))
        after = shrunk_image(drawing.image)
        shown = {
            "consistency": (before, after),
            "reasoning": (before, reference, after),
            "quality": (after,),
        }
        told = {
            "instruction": fields["judge_instruction"],
            "reference": fields.get("reference_effect") or "",
        }
        return [
            Ask(
                name=name,
                question=Question(parts=(wording.fill(name, **told), *images)),
                parse=parse_uniredit,
            )
            for name, images in shown.items()
        ]

    def values(said: Sequence[Any]) -> Values:
        return dict(zip(("consistency", "reasoning", "quality"), said, strict=True))

    return Interview(wording=wording, asks=asks, values=values)
