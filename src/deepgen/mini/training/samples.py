"""What the embedded model is trained on: the part of the world that version 0 has, and words.

A sample is a function of its number. None shows a held-out pair of object and background, or a
held-out word. Which of two objects stands on the left is not held out here, as it was not for
version 0.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from itertools import count

from deepgen.mini.world import editing, prompting, version0
from deepgen.mini.world.held_out import shows_held_out
from deepgen.mini.world.scene import Scene
from deepgen.mini.world.scene_sampler import SampleSpec, SceneSampler
from deepgen.mini.world.version0 import TextSample

WORD_KINDS: dict[str, Callable[[SceneSampler], SampleSpec]] = {**prompting.TEXT, **editing.TEXT}

# Replacing one of two is the hardest of version 0's tasks, and the one it failed at. Letters come
# up often enough in the text-to-image kinds, so that edits of words can be fewer.
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


def training_sample(number: int, *, kind: str | None = None, split: str = "train") -> TextSample:
    """One training sample, a text-to-image or an editing one.

    Args:
        number: Neighbours have nothing in common.
        kind: One of ``KINDS``; without one it is drawn by ``WEIGHTS``.
        split: Another split's name gives other samples.
    """
    # These strings are seeds: to change them is to change every sample.
    rng = random.Random(f"lessons, {split}, {kind}, {number}")
    kind = kind or rng.choices(KINDS, tuple(WEIGHTS.values()))[0]
    if kind in WORD_KINDS:
        return _word_sample(kind, rng)
    task, things = kind.split()
    wanted = (task, {"one": 1, "two": 2}[things])
    for attempt in count():
        found = version0.sample(attempt, f"lessons, {split}, {kind}, {number}")
        if (found.kind, len(found.target.things)) == wanted:
            return replace(found, kind=kind)
    raise AssertionError("version 0 has samples of every kind")


def _word_sample(kind: str, rng: random.Random) -> TextSample:
    """A word to write, or to change, with the objects of version 0."""
    side, names = version0.SIDE, version0.OBJECT_NAMES
    sampler = SceneSampler(rng=rng, bench=False, height=side, width=side, names=names)
    while True:
        spec = WORD_KINDS[kind](sampler)
        if not any(shows_held_out(scene) for scene in (spec.target, *spec.sources)):
            break
    language: version0.Language = rng.choices(("en", "zh"), (0.7, 0.3))[0]
    text = getattr(spec.prompt, language)
    source = spec.sources[0] if spec.sources else None
    return TextSample(kind=kind, text=text, target=spec.target, source=source)


def labels(scene: Scene) -> str:
    """What an image shows, in the fewest words: of each thing its place and its name.

    >>> labels(training_sample(0, kind="draw two").target)  # doctest: +SKIP
    'left fox; right car; background pink'
    """
    things = sorted(scene.things, key=lambda thing: thing.center[1])
    places = ["left", "right"] if len(things) == 2 else ["above" if scene.words else "one"]
    parts = [f"{place} {thing.name}" for place, thing in zip(places, things, strict=False)]
    for word in scene.words:
        parts.append(f"{'below' if things else 'written'} {' '.join(word.text)}")
    return "; ".join([*parts, f"background {scene.background}"])
