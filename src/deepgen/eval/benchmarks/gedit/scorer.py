"""What GEdit-Bench asks a judge: two pairs of scores from 0 to 10, on the edit and on its look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image

from deepgen.eval.benchmark import Benchmark, Values
from deepgen.eval.judged.edited import source_of
from deepgen.eval.judged.judging import Ask, Interview
from deepgen.eval.judged.wording import Wording
from deepgen.eval.scorer import Drawing
from deepgen.images.io import read_image
from deepgen.scoring.answers import Unreadable
from deepgen.scoring.parsing import parse_viescore
from deepgen.scoring.questions import EncodedImage, Question, jpeg_image

# What Pillow takes when nothing is said, as the official code says nothing.
_QUALITY = 75


def gedit_interview(benchmark: Benchmark, wording: Wording) -> Interview:
    """Text, then source and result as JPEG; the result has the size of its source."""

    def asks(drawing: Drawing) -> Sequence[Ask]:
        source = read_image(source_of(drawing))
        result = drawing.image.convert("RGB").resize(source.size, Image.Resampling.BICUBIC)
        before, after = _shown(source), _shown(result)
        instruction = drawing.item.prompt
        semantics = wording.fill("semantics", instruction=instruction)
        quality = wording.fill("quality", instruction=instruction)
        return [
            Ask(
                name="semantics",
                question=Question(parts=(semantics, before, after)),
                parse=parse_pair,
            ),
            Ask(name="quality", question=Question(parts=(quality, after)), parse=parse_pair),
        ]

    def values(said: Sequence[Any]) -> Values:
        semantics, quality = said
        return {"semantics": list(semantics), "quality": list(quality)}

    return Interview(wording=wording, asks=asks, values=values, max_tokens=(1400,))


def parse_pair(reply: str) -> tuple[int, int] | Unreadable:
    """Two whole numbers from 0 to 10; a judge that gives 7.5 is asked again."""
    found = parse_viescore(reply)
    if isinstance(found, Unreadable):
        return found
    first, second = found
    if not (first.is_integer() and second.is_integer()):
        return Unreadable("a score is no whole number")
    return int(first), int(second)


def _shown(image: Image.Image) -> EncodedImage:
    return jpeg_image(image, quality=_QUALITY)
