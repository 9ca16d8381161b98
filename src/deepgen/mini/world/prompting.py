"""Text-to-image samples that say what they want: objects, tints, counts, places, words."""

from __future__ import annotations

from collections.abc import Callable

from deepgen.mini.world.dice import Dice, Draft
from deepgen.mini.world.knowledge import TINTABLE, TINTS
from deepgen.mini.world.layout import RELATIONS
from deepgen.mini.world.scene import Scene
from deepgen.mini.world.wording import LARGE, SMALL, describe


def one(dice: Dice) -> Draft:
    """One object on a background."""
    name, background = dice.backdrop()
    return _described(dice, dice.scene(background, dice.alone(name)))


def two(dice: Dice) -> Draft:
    """Two objects; the sentence leaves open how they stand."""
    scene = dice.scene(dice.background(), *dice.pair(*dice.related()))
    return Draft(prompt=describe(scene, dice.rng, relate=False), target=scene)


def relation(dice: Dice) -> Draft:
    """Two objects and how they stand."""
    return _described(dice, dice.scene(dice.background(), *dice.pair(*dice.related())))


def count(dice: Dice) -> Draft:
    """Two to four of a kind."""
    name, number = dice.counted()
    return _described(dice, dice.scene(dice.background(), *dice.group([name] * number)))


def tint(dice: Dice) -> Draft:
    """One object in a colour."""
    name, color = dice.tinted()
    return _described(dice, dice.scene(dice.background(), dice.alone(name, tint=color)))


def two_tints(dice: Dice) -> Draft:
    """Two objects in two colours."""
    first, color = dice.tinted()
    second = dice.rng.choice([name for name in TINTABLE if name != first])
    other = dice.rng.choice([tint for tint in TINTS if tint != color])
    stands = dice.rng.choice(RELATIONS)
    things = dice.pair(first, stands, second, tints=(color, other))
    scene = dice.scene(dice.background(), *things)
    return Draft(prompt=describe(scene, dice.rng, relate=dice.rng.random() < 0.5), target=scene)


def size(dice: Dice) -> Draft:
    """One object, called small or large."""
    name, background = dice.backdrop()
    smallest, largest = dice.rng.choice(((0.24, SMALL - 0.02), (LARGE + 0.02, 0.96)))
    return _described(dice, dice.scene(background, dice.alone(name, smallest, largest)))


def style(dice: Dice) -> Draft:
    """A line drawing of one object."""
    name, background = dice.backdrop()
    return _described(dice, dice.scene(background, dice.alone(name, style="line")))


def word(dice: Dice) -> Draft:
    """A word alone."""
    return _described(dice, dice.scene(dice.background(), dice.lone_word(dice.word())))


def word_below(dice: Dice) -> Draft:
    """An object with a word under it."""
    items = dice.captioned(dice.name()), dice.caption(dice.word())
    return _described(dice, dice.scene(dice.background(), *items))


def _described(dice: Dice, scene: Scene) -> Draft:
    return Draft(prompt=describe(scene, dice.rng), target=scene)


GENERAL: dict[str, Callable[[Dice], Draft]] = {
    "one": one,
    "two": two,
    "relation": relation,
    "count": count,
    "tint": tint,
    "two tints": two_tints,
    "size": size,
    "style": style,
}
TEXT: dict[str, Callable[[Dice], Draft]] = {"word": word, "word below": word_below}
