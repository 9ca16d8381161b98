"""Templates of the scene reader, measured on renderings: images of letters, lengths of drawings."""

from __future__ import annotations

import numpy as np

from deepgen.mini.reader.crops import box_of
from deepgen.mini.reader.letters import Letters
from deepgen.mini.world.drawing import draw
from deepgen.mini.world.knowledge import OBJECTS
from deepgen.mini.world.lettering import ALPHABET
from deepgen.mini.world.scene import Scene, Thing, Word

# (columns, rows); the largest capitals of the usual canvas.
_LETTER = (32, 48)
_CANVAS = 128


def letters() -> Letters:
    """An image of every letter of the world, black on white."""
    images = []
    for letter in ALPHABET:
        word = Word(text=letter, center=(0.5, 0.5), size=_LETTER[1] / _CANVAS)
        white = Scene(height=_CANVAS, width=_CANVAS, background="white", items=(word,))
        gray = np.asarray(draw(white).convert("L"), dtype=np.float32)
        top, left = (_CANVAS - _LETTER[1]) // 2, (_CANVAS - _LETTER[0]) // 2
        images.append(1 - gray[top : top + _LETTER[1], left : left + _LETTER[0]] / 255)
    return Letters(ALPHABET, np.stack(images))


def lengths() -> dict[str, float]:
    """Longer side of every drawing, as a fraction of its square."""
    return {name: round(_length(name), 3) for name in OBJECTS}


def _length(name: str) -> float:
    thing = Thing(name=name, center=(0.5, 0.5), size=1.0)
    box = box_of(Scene(height=_CANVAS, width=_CANVAS, background="white", items=(thing,)))
    return max(box.bottom - box.top, box.right - box.left) / _CANVAS
