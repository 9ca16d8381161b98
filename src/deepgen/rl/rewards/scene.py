"""Whether an image of the mini's world shows the scene that its prompt asks for, by rules.

The image is read by a classifier that the benchmark does not use, and words by OCR where the
benchmark matches templates: a policy cannot raise both by the mistakes of one reader.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import permutations
from math import hypot

from PIL import Image

from deepgen import __version__
from deepgen.mini.reader.objects import WORD, load_reward_classifier
from deepgen.mini.reader.scenes import DetectedItem, DetectedScene, SceneReader, load_scene_reader
from deepgen.mini.world.layout import relation
from deepgen.mini.world.request import SceneRequest
from deepgen.mini.world.scene import BACKGROUNDS, Scene, Thing
from deepgen.mini.world.wording import LARGE, SMALL
from deepgen.rl.rewards.base import Reward
from deepgen.scoring.answers import Answer, AnswerStatus
from deepgen.scoring.ocr import TextReader, create_reader, text_similarity
from deepgen.scoring.scorer import ScorerInput

READ_SIDES = (64, 96, 128)
"""Sides of images that the reader was trained on; others are resized to the largest."""

OCR_SIDE = 512
"""Small letters are enlarged before they are read."""

# Prompts of these kinds say how the first thing stands to the second.
_PLACED = ("relation",)

# Halfway between the sizes that a prompt calls small or large and those that it does not mention.
_SMALL_BELOW, _LARGE_FROM = (SMALL + 0.5) / 2, (LARGE + 0.8) / 2


class SceneScorer:
    """The fraction of what was asked for that an image shows, from 0 to 1.

    Each object, tint, relation, size, style and word that the prompt states is one part, as is the
    background; each thing too many is a part that is not fulfilled. A word counts by its edit
    distance.

    Args:
        words: Reads words; needed only where a scene has some.
    """

    name = "scene"
    bounds = (0.0, 1.0)

    def __init__(self, reader: SceneReader, words: TextReader | None = None) -> None:
        self.reader = reader
        self.words = words

    @property
    def identity(self) -> Mapping[str, str]:
        """The readers."""
        found = {"reader": f"the package's reader for rewards, deepgen {__version__}"}
        return found | ({"ocr": self.words.name} if self.words else {})

    def score(self, inputs: Sequence[ScorerInput]) -> list[Answer[float]]:
        """One fraction per image; without a scene in ``details`` there is nothing to score."""
        return [self._fraction(each) for each in inputs]

    def _fraction(self, each: ScorerInput) -> Answer[float]:
        try:
            request = SceneRequest.from_json(each.details["scene"])
        except KeyError:
            reason = "the prompt has no scene of the mini's world"
            return Answer(status=AnswerStatus.ERROR, reason=reason)
        except ValueError as error:
            return Answer(status=AnswerStatus.ERROR, reason=str(error))
        lines: Sequence[str] = ()
        if request.target.words:
            if self.words is None:
                reason = "the scene has words, and there is no OCR to read them"
                return Answer(status=AnswerStatus.ERROR, reason=reason)
            read = self.words.read(_enlarged(each.image))
            if read.status is not AnswerStatus.SCORED:
                return Answer(status=read.status, reason=read.reason)
            lines = read.value or ()
        image = each.image
        if image.width not in READ_SIDES or image.width != image.height:
            side = max(READ_SIDES)
            image = image.resize((side, side), Image.Resampling.LANCZOS)
        value = fulfilled(request, self.reader.read(image), lines)
        return Answer(status=AnswerStatus.SCORED, value=value, model=self.name)


def fulfilled(request: SceneRequest, seen: DetectedScene, lines: Sequence[str] = ()) -> float:
    """The fraction of a request that a scene fulfils.

    Args:
        seen: What the image shows; texts of words in it are not used.
        lines: Text that was recognised in the image.
    """
    parts = list(_parts(request, seen, lines))
    return sum(parts) / len(parts)


def _parts(request: SceneRequest, seen: DetectedScene, lines: Sequence[str]) -> Iterator[float]:
    target, kind = request.target, request.kind
    yield float(seen.background == target.background)
    pairs = _matched(target.things, seen)
    for thing, own in pairs:
        yield float(own is not None)
        if thing.tint is not None:
            yield float(own is not None and own.tint == thing.tint)
        if kind == "style":
            yield float(own is not None and own.style == thing.style)
        if kind == "size":
            yield float(own is not None and _has_size(own, thing))
    if kind in _PLACED and len(pairs) == 2:
        yield float(_stand_as_asked(pairs, target))
    for word in target.words:
        yield text_similarity([word.text], lines)
    found, wanted = Counter(item.label for item in seen.items), Counter[str]()
    wanted.update(thing.name for thing in target.things)
    wanted[WORD] = len(target.words)
    yield from [0.0] * sum((found - wanted).values())


def _matched(
    things: Sequence[Thing], seen: DetectedScene
) -> list[tuple[Thing, DetectedItem | None]]:
    """Each wanted thing with a found one of its name; of several, the best ones in all."""
    pairs: dict[int, DetectedItem] = {}
    for name in {thing.name for thing in things}:
        wanted = [index for index, thing in enumerate(things) if thing.name == name]
        found = [item for item in seen.items if item.label == name]
        count = min(len(wanted), len(found))
        ways = (
            list(zip(order, chosen, strict=True))
            for order in permutations(wanted, count)
            for chosen in permutations(found, count)
        )
        pairs |= min(ways, key=lambda way: sum(_unlike(things[i], own) for i, own in way))
    return [(thing, pairs.get(index)) for index, thing in enumerate(things)]


def _unlike(thing: Thing, own: DetectedItem) -> float:
    """Another tint is worse than any distance."""
    off = hypot(thing.center[0] - own.center[0], thing.center[1] - own.center[1])
    return off + 2 * (thing.tint is not None and own.tint != thing.tint)


def _has_size(own: DetectedItem, thing: Thing) -> bool:
    if thing.size < SMALL:
        return own.size < _SMALL_BELOW
    return own.size >= _LARGE_FROM if thing.size >= LARGE else True


def _stand_as_asked(pairs: Sequence[tuple[Thing, DetectedItem | None]], target: Scene) -> bool:
    (first, own_first), (second, own_second) = pairs
    if own_first is None or own_second is None:
        return False
    placed = [
        replace(thing, center=own.center)
        for thing, own in ((first, own_first), (second, own_second))
    ]
    return relation(placed[0], placed[1], target) == relation(first, second, target)


def _enlarged(image: Image.Image) -> Image.Image:
    scale = max(1.0, OCR_SIDE / max(image.size))
    size = (round(image.width * scale), round(image.height * scale))
    return image.resize(size, Image.Resampling.LANCZOS)


def create_reward(*, reads_words: bool = False, worker_url: str = "") -> Reward:
    """By the package's reader for rewards.

    Args:
        reads_words: Whether scenes with words are scored, by OCR; needs rapidocr.
        worker_url: The OCR engine of a worker instead.

    Raises:
        ScorerError: rapidocr is not installed, or the worker does not answer.
    """
    reader = replace(load_scene_reader(BACKGROUNDS), classifier=load_reward_classifier())
    words = create_reader(worker_url) if reads_words or worker_url else None
    return Reward(name="scene", scorer=SceneScorer(reader, words), needs="scene")
