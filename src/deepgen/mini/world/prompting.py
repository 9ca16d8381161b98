"""Text-to-image samples that say what they want: objects, tints, counts, places, words."""

from __future__ import annotations

from collections.abc import Callable

from deepgen.mini.world.knowledge import TINTABLE, TINTS
from deepgen.mini.world.layout import RELATIONS
from deepgen.mini.world.scene import Scene
from deepgen.mini.world.scene_sampler import SampleSpec, SceneSampler
from deepgen.mini.world.wording import LARGE, SMALL, describe


def one(sampler: SceneSampler) -> SampleSpec:
    """One object on a background."""
    name, background = sampler.backdrop()
    return _described(sampler, sampler.scene(background, sampler.alone(name)))


def two(sampler: SceneSampler) -> SampleSpec:
    """Two objects; the sentence leaves open how they stand."""
    scene = sampler.scene(sampler.background(), *sampler.pair(*sampler.related()))
    return SampleSpec(prompt=describe(scene, sampler.rng, relate=False), target=scene)


def relation(sampler: SceneSampler) -> SampleSpec:
    """Two objects and how they stand."""
    return _described(
        sampler, sampler.scene(sampler.background(), *sampler.pair(*sampler.related()))
    )


def count(sampler: SceneSampler) -> SampleSpec:
    """Two to four of a kind."""
    name, number = sampler.counted()
    return _described(sampler, sampler.scene(sampler.background(), *sampler.group([name] * number)))


def tint(sampler: SceneSampler) -> SampleSpec:
    """One object in a colour."""
    name, color = sampler.tinted()
    return _described(sampler, sampler.scene(sampler.background(), sampler.alone(name, tint=color)))


def two_tints(sampler: SceneSampler) -> SampleSpec:
    """Two objects in two colours."""
    first, color = sampler.tinted()
    second = sampler.rng.choice([name for name in TINTABLE if name != first])
    other = sampler.rng.choice([tint for tint in TINTS if tint != color])
    stands = sampler.rng.choice(RELATIONS)
    things = sampler.pair(first, stands, second, tints=(color, other))
    scene = sampler.scene(sampler.background(), *things)
    return SampleSpec(
        prompt=describe(scene, sampler.rng, relate=sampler.rng.random() < 0.5), target=scene
    )


def size(sampler: SceneSampler) -> SampleSpec:
    """One object, called small or large."""
    name, background = sampler.backdrop()
    smallest, largest = sampler.rng.choice(((0.24, SMALL - 0.02), (LARGE + 0.02, 0.96)))
    return _described(sampler, sampler.scene(background, sampler.alone(name, smallest, largest)))


def style(sampler: SceneSampler) -> SampleSpec:
    """A line drawing of one object."""
    name, background = sampler.backdrop()
    return _described(sampler, sampler.scene(background, sampler.alone(name, style="line")))


def word(sampler: SceneSampler) -> SampleSpec:
    """A word alone."""
    return _described(
        sampler, sampler.scene(sampler.background(), sampler.lone_word(sampler.word()))
    )


def word_below(sampler: SceneSampler) -> SampleSpec:
    """An object with a word under it."""
    items = sampler.captioned(sampler.name()), sampler.caption(sampler.word())
    return _described(sampler, sampler.scene(sampler.background(), *items))


def _described(sampler: SceneSampler, scene: Scene) -> SampleSpec:
    return SampleSpec(prompt=describe(scene, sampler.rng), target=scene)


GENERAL: dict[str, Callable[[SceneSampler], SampleSpec]] = {
    "one": one,
    "two": two,
    "relation": relation,
    "count": count,
    "tint": tint,
    "two tints": two_tints,
    "size": size,
    "style": style,
}
TEXT: dict[str, Callable[[SceneSampler], SampleSpec]] = {"word": word, "word below": word_below}
