"""What RISEBench asks a judge: up to three scores, by category and by what the answer is given as.

All images are JPEG of at most 768 pixels a side, after the text, to be looked at closely.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from deepgen.errors import BenchmarkError
from deepgen.eval.benchmark import Benchmark, Values
from deepgen.eval.benchmarks.rise.benchmark import LOGICAL
from deepgen.eval.judged.edited import beside_source, source_of
from deepgen.eval.judged.judging import Ask, Interview
from deepgen.eval.judged.wording import Wording
from deepgen.eval.scorer import Drawing
from deepgen.images.io import read_image
from deepgen.scoring.answers import Unreadable
from deepgen.scoring.parsing import parse_rise
from deepgen.scoring.questions import EncodedImage, Question, jpeg_image

SPATIAL = "spatial_reasoning"

_LONGEST_SIDE = 768
# What Pillow takes when nothing is said, as the official code says nothing.
_QUALITY = 75


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


def rise_interview(benchmark: Benchmark, wording: Wording) -> Interview:
    """The questions that apply to an edit, in the order consistency, reasoning, plausibility."""
    # Since February 2026 an edit may ask for its source to be shown with the reasoning.
    shows_sources = benchmark.name != "rise/2025-05"

    def asks(drawing: Drawing) -> Sequence[Ask]:
        plan = _plan(drawing, shows_sources=shows_sources)
        scale = range(2) if drawing.item.category == LOGICAL else range(1, 6)
        before = shrunk_image(read_image(plan.before))
        after = shrunk_image(drawing.image)
        shown = {
            "consistency": (plan.consistency, (before, after)),
            "reasoning": (
                plan.reasoning,
                (before, after) if plan.reasoning_sees_before else (after,),
            ),
            "plausibility": (plan.plausibility, (after,)),
        }
        if drawing.item.fields.get("consistency_free"):
            del shown["consistency"]
        return [
            Ask(
                name=name,
                question=Question(
                    parts=(
                        wording.fill(
                            text, instruction=drawing.item.prompt, reference=plan.reference
                        ),
                        *images,
                    )
                ),
                parse=partial(_named, name, scale),
            )
            for name, (text, images) in shown.items()
            if text is not None
        ]

    def values(said: Sequence[Any]) -> Values:
        return dict(said)

    return Interview(wording=wording, asks=asks, values=values)


def shrunk_image(image: Image.Image) -> EncodedImage:
    """As RISEBench and UniREditBench show images."""
    return jpeg_image(image, quality=_QUALITY, longest_side=_LONGEST_SIDE, detail="high")


def _named(name: str, scale: range, reply: str) -> tuple[str, int] | Unreadable:
    found = parse_rise(reply, scale)
    return found if isinstance(found, Unreadable) else (name, found)


def _plan(drawing: Drawing, *, shows_sources: bool) -> _Plan:
    item, fields = drawing.item, drawing.item.fields
    source = source_of(drawing)
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
                before=beside_source(drawing, image),
                consistency="logical consistency",
                reasoning=f"logical reasoning by image{' alone' if alone else ''}",
                reasoning_sees_before=True,
            )
    elif item.category == SPATIAL and image:
        return _Plan(
            before=beside_source(drawing, image),
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
