"""GEdit-Bench's judge protocol: two pairs of scores from 0 to 10, on the edit and on its look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image

from deepgen.eval.benchmark import Benchmark, Values
from deepgen.eval.judge.prompts import JudgePrompts
from deepgen.eval.judge.scorer import JudgeProtocol, JudgeQuestion
from deepgen.eval.judge.source_images import PILLOW_QUALITY, source_of
from deepgen.eval.scorer import GeneratedImage, ScoringOptions
from deepgen.images.io import read_image
from deepgen.scoring.answers import Unreadable
from deepgen.scoring.parsing import parse_viescore
from deepgen.scoring.questions import EncodedImage, Question, jpeg_image


def load_protocol(
    benchmark: Benchmark, prompts: JudgePrompts, options: ScoringOptions
) -> JudgeProtocol:
    """Text, then source and result as JPEG; the result has the size of its source."""

    def questions(generated: GeneratedImage) -> Sequence[JudgeQuestion]:
        source = read_image(source_of(generated))
        result = generated.image.convert("RGB").resize(source.size, Image.Resampling.BICUBIC)
        before, after = _shown(source), _shown(result)
        instruction = generated.item.prompt
        semantics = prompts.fill("semantics", instruction=instruction)
        quality = prompts.fill("quality", instruction=instruction)
        return [
            JudgeQuestion(
                name="semantics",
                question=Question(parts=(semantics, before, after)),
                parse=parse_pair,
            ),
            JudgeQuestion(
                name="quality", question=Question(parts=(quality, after)), parse=parse_pair
            ),
        ]

    def values(answers: Sequence[Any]) -> Values:
        semantics, quality = answers
        return {"semantics": list(semantics), "quality": list(quality)}

    return JudgeProtocol(prompts=prompts, questions=questions, values=values, max_tokens=(1400,))


def parse_pair(reply: str) -> tuple[int, int] | Unreadable:
    """Two whole numbers from 0 to 10; a judge that gives 7.5 is asked again."""
    found = parse_viescore(reply)
    if isinstance(found, Unreadable):
        return found
    first, second = found
    if not (first.is_integer() and second.is_integer()):
        return Unreadable("a score is not a whole number")
    return int(first), int(second)


def _shown(image: Image.Image) -> EncodedImage:
    return jpeg_image(image, quality=PILLOW_QUALITY)
