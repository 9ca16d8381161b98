"""The held-out compositions: training never shows them, and the benchmark asks for them.

A composition is what a scene puts together: an object and a background, an object and a tint, two
objects and how they stand, an object and a number, the letters of a word. Listed in
``docs/mini-held-out.txt``, which ``python -m deepgen.mini.world.held_out`` prints.
"""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from functools import cache
from itertools import combinations
from typing import Literal, get_args

from deepgen.mini.world.knowledge import OBJECTS, TINTABLE, TINTS, natural_tint
from deepgen.mini.world.layout import OPPOSITE, relation
from deepgen.mini.world.lettering import ALPHABET
from deepgen.mini.world.scene import BACKGROUNDS, Scene
from deepgen.mini.world.version0 import held_out_pairs

Aspect = Literal["background", "tint", "relation", "count", "word"]
ASPECTS: tuple[Aspect, ...] = get_args(Aspect)
Composition = tuple[str, ...]
"""An aspect and its parts: ("tint", "apple", "blue"), ("relation", "dog", "left of", "cat")."""

_ENGLISH = (
    "ACE ADD AGE ALARM ANGEL APPLE ARCH ART CAFE CAGE CAKE CALM CAMERA CANDLE CAP CARD CARE "
    "CART CAT CAVE CHAT CHECK CHEF CLAP CLEAN CLUE DANCE DATE DAY DEAL DEER DREAM DUCK EAGLE "
    "EARTH EAT END EXAM EXTRA FACE FACT FAN FARM FAR FLAG FLAT FLEX FREE FUN FUNNY GALAXY "
    "GAME GARAGE GATE GEM GLAD GRAPE GREEN GUARD HAND HAPPY HAT HEART HEAT HELP HERE HUT JADE "
    "JAM JEEP JET JUMP JUNGLE KEEP KEY LACE LAKE LAMP LATE LAUGH LEAF LEARN LEMUR LUCK LUNCH "
    "LUCKY MAGNET MAP MARCH MARKET MAY MEAL MELT MERRY METAL MEET NAME NEAR NEED NEW NEXT NUT "
    "PAGE PAPER PARK PARTY PEACE PEAK PEN PLANET PLAY PULL QUACK QUEEN RACE RADAR RAMP READY "
    "RED RENT RUN TALE TALK TALL TAPE TEA TEAM TENT THANK TRADE TRUCK TRUE TUNA TURN UNDER UP "
    "VALLEY VAN VELVET WALK WALL WARM WATER WAVE WAX WELL WET WHEEL YARD YEAH YELL YET YUM "
)
WORDS = tuple(_ENGLISH.split())
_HELD_OUT_CODES = 100


@cache
def held_out(aspect: Aspect) -> tuple[Composition, ...]:
    """All held-out compositions of one aspect, in a fixed order."""
    rules = {
        "background": _backgrounds,
        "tint": _tints,
        "relation": _relations,
        "count": _counts,
        "word": _words,
    }
    return tuple((aspect, *parts) for parts in rules[aspect]())


@cache
def all_held_out() -> frozenset[Composition]:
    """Every held-out composition."""
    return frozenset(composition for aspect in ASPECTS for composition in held_out(aspect))


def compositions(scene: Scene) -> frozenset[Composition]:
    """All compositions of a scene. Relations are normalised to "left of" and "above"."""
    found: set[Composition] = {("word", word.text) for word in scene.words}
    for thing in scene.things:
        found.add(("background", thing.name, scene.background))
        if thing.tint is not None:
            found.add(("tint", thing.name, thing.tint))
    for name, count in Counter(thing.name for thing in scene.things).items():
        found.add(("count", name, str(count)))
    for first, second in combinations(scene.things, 2):
        stands = relation(first, second, scene)
        if stands in ("right of", "below"):
            first, second, stands = second, first, OPPOSITE[stands]
        if stands is not None and first.name != second.name:
            found.add(("relation", first.name, stands, second.name))
    return frozenset(found)


def shows_held_out(scene: Scene) -> bool:
    """Whether any composition of the scene is held out."""
    return not compositions(scene).isdisjoint(all_held_out())


def code(number: int) -> str:
    """Letters and digits that spell nothing, two to six of them."""
    digest = hashlib.sha256(f"code {number}".encode()).digest()
    return "".join(ALPHABET[byte % len(ALPHABET)] for byte in digest[: 2 + digest[-1] % 5])


def listing() -> str:
    """Every held-out composition, one a line."""
    return "".join(
        f"{' '.join(composition)}\n" for aspect in ASPECTS for composition in held_out(aspect)
    )


def _backgrounds() -> list[Composition]:
    # Version 0's pairs stay held out, so that its benchmark is fair to its successors; of every
    # other object one background is held out.
    first = held_out_pairs()
    others = [name for name in OBJECTS if name not in {name for name, _ in first}]
    colors = list(BACKGROUNDS)
    return [*first, *((name, colors[3 * i % len(colors)]) for i, name in enumerate(others))]


def _tints() -> list[Composition]:
    # Two a tintable object, neither of them what it looks like untinted.
    pairs: list[Composition] = []
    for index, name in enumerate(TINTABLE):
        others = [tint for tint in TINTS if tint != natural_tint(name)]
        pairs += [(name, others[(3 * index + step) % len(others)]) for step in (0, 2)]
    return pairs


def _relations() -> list[Composition]:
    names = list(OBJECTS)
    return [
        (name, ("left of", "above")[(index + turn) % 2], names[(index + step) % len(names)])
        for index, name in enumerate(names)
        for turn, step in enumerate((7, 38))
    ]


def _counts() -> list[Composition]:
    return [(name, str(2 + index % 3)) for index, name in enumerate(OBJECTS)]


def _words() -> list[Composition]:
    # Short codes may repeat.
    words = dict.fromkeys([*WORDS[::3], *(code(number) for number in range(_HELD_OUT_CODES))])
    return [(word,) for word in words]


if __name__ == "__main__":
    sys.stdout.write(listing())
