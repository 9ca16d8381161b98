"""RISEBench's judge protocol: up to three scores, by category and by what the answer is given as.

All images are JPEG of at most 768 pixels a side in high detail, after the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from deepgen.errors import BenchmarkError
from deepgen.eval.benchmark import Benchmark
from deepgen.eval.benchmarks.rise.benchmark import LOGICAL
from deepgen.eval.judge.prompts import JudgePrompts
from deepgen.eval.judge.scorer import JudgeProtocol, JudgeQuestion
from deepgen.eval.judge.source_images import beside_source, shrunk_image, source_of
from deepgen.eval.scorer import GeneratedImage, ScoringOptions
from deepgen.images.io import read_image
from deepgen.scoring.answers import Unreadable
from deepgen.scoring.parsing import parse_rise
from deepgen.scoring.questions import Question

SPATIAL = "spatial_reasoning"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Plan:
    """How one edit is judged."""

    before: Path
    """The source, or a reference image in its place."""
    consistency: str
    """Names of the questions."""
    reasoning: str
    reference: str = ""
    """What the answer should be, in words."""
    reasoning_sees_before: bool = False
    plausibility: str | None = None


def load_protocol(
    benchmark: Benchmark, prompts: JudgePrompts, options: ScoringOptions
) -> JudgeProtocol:
    """The questions that apply to an edit, in the order consistency, reasoning, plausibility."""
    # Since February 2026 an edit may ask for its source to be shown with the reasoning.
    shows_sources = benchmark.name != "rise/2025-05"

    def questions(generated: GeneratedImage) -> Sequence[JudgeQuestion]:
        plan = _plan(generated, shows_sources=shows_sources)
        scale = range(2) if generated.item.category == LOGICAL else range(1, 6)
        before = shrunk_image(read_image(plan.before))
        after = shrunk_image(generated.image)
        shown = {
            "consistency": (plan.consistency, (before, after)),
            "reasoning": (
                plan.reasoning,
                (before, after) if plan.reasoning_sees_before else (after,),
            ),
            "plausibility": (plan.plausibility, (after,)),
        }
        if generated.item.fields.get("consistency_free"):
            del shown["consistency"]
        return [
            JudgeQuestion(
                name=name,
                question=Question(
                    parts=(
                        prompts.fill(
                            text, instruction=generated.item.prompt, reference=plan.reference
                        ),
                        *images,
                    )
                ),
                parse=partial(_named, name, scale),
            )
            for name, (text, images) in shown.items()
            if text is not None
        ]

    return JudgeProtocol(prompts=prompts, questions=questions, values=dict)


def _named(name: str, scale: range, reply: str) -> tuple[str, int] | Unreadable:
    found = parse_rise(reply, scale)
    return found if isinstance(found, Unreadable) else (name, found)


def _plan(generated: GeneratedImage, *, shows_sources: bool) -> _Plan:
    item, fields = generated.item, generated.item.fields
    source = source_of(generated)
    with_source = shows_sources and "reasoning_img" in fields
    image = fields.get("reference_img")
    if item.category == LOGICAL:
        if "reference_txt" in fields:
            return _Plan(
                before=source,
                consistency="logical consistency with answer",
                reasoning="logical reasoning by text",
                reference=fields["reference_txt"],
            )
        if image:
            alone = bool(fields.get("reasoning_wo_ins"))
            return _Plan(
                before=beside_source(generated, image),
                consistency="logical consistency",
                reasoning=f"logical reasoning by image{' alone' if alone else ''}",
                reasoning_sees_before=True,
            )
    elif item.category == SPATIAL and image:
        return _Plan(
            before=beside_source(generated, image),
            consistency="spatial consistency",
            reasoning="spatial reasoning by image",
            reasoning_sees_before=True,
            plausibility="spatial plausibility",
        )
    elif "reference" in fields:
        kind = "spatial " if item.category == SPATIAL else ""
        return _Plan(
            before=source,
            consistency=f"{kind}consistency",
            reasoning=f"{kind}reasoning{' with source' if with_source else ''}",
            reference=fields["reference"],
            reasoning_sees_before=with_source,
            plausibility=f"{kind}plausibility",
        )
    raise BenchmarkError(f"item {item.id} says neither in words nor in an image what is right")
