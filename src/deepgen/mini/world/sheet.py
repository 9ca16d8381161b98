"""Contact sheet of the mini's world: every object, and a sample of every kind with its prompt.

``python -m deepgen.mini.world.sheet docs/img/mini-world.png`` needs the extra ``[mini]``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap

from PIL import Image, ImageDraw, ImageFont

from deepgen.mini.world.drawing import draw
from deepgen.mini.world.knowledge import OBJECTS
from deepgen.mini.world.sampling import DRAWING_KINDS, EDIT_KINDS, Sample, sample
from deepgen.mini.world.scene import Scene, Thing

_WIDTH = 1152
_GAP = 8
_OBJECT_SIDE = 48
_SAMPLE_SIDE = 96
_CANVAS = (_SAMPLE_SIDE, _SAMPLE_SIDE)
_LINE_HEIGHT = 12
_LINES = 6
# Of the sheet's font, a line of 10 points fits about one letter per 5.2 pixels.
_LETTER_WIDTH = 5.2


def sheet() -> Image.Image:
    """Draw the overview."""
    objects = _objects()
    drawings = [_captioned(sample(7, kind=kind, canvas=_CANVAS)) for kind in DRAWING_KINDS]
    edits = [_captioned(sample(3, kind=kind, canvas=_CANVAS)) for kind in EDIT_KINDS]
    blocks = [objects, _flowed(drawings), _flowed(edits)]
    height = sum(block.height + _GAP for block in blocks)
    page = Image.new("RGB", (_WIDTH, height), "white")
    top = 0
    for block in blocks:
        page.paste(block, (0, top))
        top += block.height + _GAP
    return page


def _objects() -> Image.Image:
    columns = _WIDTH // _OBJECT_SIDE
    rows = -(-len(OBJECTS) // columns)
    block = Image.new("RGB", (_WIDTH, rows * _OBJECT_SIDE), "white")
    for index, name in enumerate(OBJECTS):
        thing = Thing(name=name, center=(0.5, 0.5), size=0.9)
        side = _OBJECT_SIDE * 2
        # Canvas sides are multiples of 32: rendered twice as large and halved.
        image = draw(Scene(height=side, width=side, background="white", items=(thing,)))
        small = image.resize((_OBJECT_SIDE, _OBJECT_SIDE), Image.Resampling.LANCZOS)
        block.paste(small, (index % columns * _OBJECT_SIDE, index // columns * _OBJECT_SIDE))
    return block


def _captioned(shown: Sample) -> Image.Image:
    """The images of a sample in a row, its kind and its English prompt below."""
    scenes = (*shown.sources, shown.target)
    width = len(scenes) * (_SAMPLE_SIDE + 4) - 4
    cell = Image.new("RGB", (width, _SAMPLE_SIDE + (_LINES + 1) * _LINE_HEIGHT + 6), "white")
    pen = ImageDraw.Draw(cell)
    for index, scene in enumerate(scenes):
        left = index * (_SAMPLE_SIDE + 4)
        cell.paste(draw(scene), (left, 0))
        # White images need a border.
        pen.rectangle((left, 0, left + _SAMPLE_SIDE - 1, _SAMPLE_SIDE - 1), outline="#c0c0c0")
    font = ImageFont.load_default(10)
    lines = wrap(shown.prompt.en, int(width / _LETTER_WIDTH))[:_LINES]
    pen.text((0, _SAMPLE_SIDE + 2), shown.kind, fill="#3060c0", font=font)
    for index, line in enumerate(lines, start=1):
        pen.text((0, _SAMPLE_SIDE + 2 + index * _LINE_HEIGHT), line, fill="black", font=font)
    return cell


def _flowed(cells: Sequence[Image.Image]) -> Image.Image:
    """Cells of one height from left to right, and on in the next row."""
    places = []
    left = top = 0
    for cell in cells:
        if left + cell.width > _WIDTH:
            left, top = 0, top + cell.height + _GAP
        places.append((left, top))
        left += cell.width + 2 * _GAP
    block = Image.new("RGB", (_WIDTH, top + cells[-1].height), "white")
    for cell, place in zip(cells, places, strict=True):
        block.paste(cell, place)
    return block


def main() -> None:
    """Write the overview to a file."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("output", type=Path)
    # The world has few colours: quantised to 192, the file is a third as large.
    sheet().quantize(192, kmeans=3).save(parser.parse_args().output, optimize=True)


if __name__ == "__main__":
    main()
