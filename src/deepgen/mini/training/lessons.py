"""What the embedded model is taught: the part of the world that version 0 draws, and words.

No lesson shows a pair of object and background, or a word, that is held out. Which of two objects
stands left is not held out here, as it was not from version 0. A lesson is a function of its
number.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from deepgen.mini.world import editing, prompting, version0
from deepgen.mini.world.dice import Dice, Draft
from deepgen.mini.world.held_out import shows_held_out
from deepgen.mini.world.scene import Scene

SIDE = version0.SIDE

WORD_KINDS: dict[str, Callable[[Dice], Draft]] = {**prompting.TEXT, **editing.TEXT}

# Replacing one of two is the hardest of version 0's tasks, and the one it failed at; of words, the
# letters come up often enough in drawings that edits can be fewer.
WEIGHTS: dict[str, float] = {
    "draw one": 0.22,
    "draw two": 0.16,
    "background one": 0.07,
    "background two": 0.05,
    "replace one": 0.08,
    "replace two": 0.14,
    "word": 0.10,
    "word below": 0.08,
    "add word": 0.03,
    "change word": 0.04,
    "remove word": 0.03,
}
KINDS = tuple(WEIGHTS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Lesson:
    """A request and the image that fulfils it."""

    kind: str
    """One of ``KINDS``."""
    language: version0.Language
    text: str
    """The sentence, or the instruction."""
    target: Scene
    source: Scene | None = None
    """What an instruction starts from; None for a drawing."""


def lesson(number: int, *, kind: str | None = None, split: str = "train") -> Lesson:
    """One lesson; without a kind they take turns by lot.

    Args:
        number: Neighbours have nothing in common.
        kind: One of ``KINDS``.
        split: Another split's name gives other lessons.
    """
    rng = random.Random(f"lessons, {split}, {kind}, {number}")
    kind = kind or rng.choices(KINDS, tuple(WEIGHTS.values()))[0]
    if kind in WORD_KINDS:
        return _word_lesson(kind, rng)
    task, things = kind.split()
    wanted = (task, {"one": 1, "two": 2}[things])
    for attempt in count():
        found = version0.sample(attempt, f"lessons, {split}, {kind}, {number}")
        if (found.task, len(found.target.things)) == wanted:
            return Lesson(
                kind=kind,
                language="en" if found.text.isascii() else "zh",
                text=found.text,
                target=found.target,
                source=found.source,
            )
    raise AssertionError("version 0 has samples of every kind")


def _word_lesson(kind: str, rng: random.Random) -> Lesson:
    """A word to write, or to change, with the objects of version 0."""
    dice = Dice(rng=rng, bench=False, height=SIDE, width=SIDE, names=version0.OBJECT_NAMES)
    while True:
        draft = WORD_KINDS[kind](dice)
        if not any(shows_held_out(scene) for scene in (draft.target, *draft.sources)):
            break
    language: version0.Language = rng.choices(("en", "zh"), (0.7, 0.3))[0]
    return Lesson(
        kind=kind,
        language=language,
        text=getattr(draft.prompt, language),
        target=draft.target,
        source=draft.sources[0] if draft.sources else None,
    )


def labels(scene: Scene) -> str:
    """What a lesson's image shows, in the fewest words: of each thing its place and its name.

    >>> labels(lesson(0, kind="draw two").target)  # doctest: +SKIP
    'left fox; right car; background pink'
    """
    things = sorted(scene.things, key=lambda thing: thing.center[1])
    places = ["left", "right"] if len(things) == 2 else ["above" if scene.words else "one"]
    parts = [f"{place} {thing.name}" for place, thing in zip(places, things, strict=False)]
    for word in scene.words:
        parts.append(f"{'below' if things else 'written'} {' '.join(word.text)}")
    return "; ".join([*parts, f"background {scene.background}"])
