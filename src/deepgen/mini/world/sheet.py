"""Contact sheets; of the mini's world: every object, and a sample of every kind with its prompt.

``python -m deepgen.mini.world.sheet docs/img/mini-world.png`` needs the extra ``[mini]``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap

from PIL import Image, ImageDraw, ImageFont, ImageOps

from deepgen.mini.world.drawing import draw
from deepgen.mini.world.knowledge import OBJECTS
from deepgen.mini.world.sampling import DRAWING_KINDS, EDIT_KINDS, Sample, sample
from deepgen.mini.world.scene import Scene, Thing

_GAP = 8
_SIDE = 96
# Of the sheet's font, in multiples of its size.
_LINE_HEIGHT = 1.2
_LETTER_WIDTH = 0.52

Cell = tuple[Sequence[Image.Image], str]
"""Images of one size, side by side, and the text below them."""


def contact_sheet(cells: Sequence[Cell], *, columns: int, font_size: int = 10) -> Image.Image:
    """All cells in a grid, each image with a border, since white ones need one.

    Args:
        cells: Images, with the text below them.
        columns: Of the grid.
        font_size: Of the texts, in pixels.
    """
    line_height = round(_LINE_HEIGHT * font_size)
    side = max(max(image.size) for images, _ in cells for image in images) + 2
    width = max(len(images) for images, _ in cells) * (side + 2)
    texts = [wrap(text, int(width / (_LETTER_WIDTH * font_size))) for _, text in cells]
    pitch = width + _GAP, side + max(map(len, texts)) * line_height + _GAP
    page = Image.new("RGB", (columns * pitch[0], -(-len(cells) // columns) * pitch[1]), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(font_size)
    for index, ((images, _), lines) in enumerate(zip(cells, texts, strict=True)):
        left, top = index % columns * pitch[0], index // columns * pitch[1]
        for number, image in enumerate(images):
            page.paste(ImageOps.expand(image, 1, "#c0c0c0"), (left + number * (side + 2), top))
        for line, text in enumerate(lines):
            pen.text((left, top + side + line * line_height), text, fill="black", font=font)
    return page


def overview() -> Image.Image:
    """Every object, and a sample of every kind."""
    canvas = (_SIDE, _SIDE)
    drawings = [_cell(sample(7, kind=kind, canvas=canvas)) for kind in DRAWING_KINDS]
    edits = [_cell(sample(3, kind=kind, canvas=canvas)) for kind in EDIT_KINDS]
    blocks = [
        contact_sheet([_object(name) for name in OBJECTS], columns=16),
        contact_sheet(drawings, columns=10),
        contact_sheet(edits, columns=4),
    ]
    size = max(block.width for block in blocks), sum(block.height for block in blocks)
    page, top = Image.new("RGB", size, "white"), 0
    for block in blocks:
        page.paste(block, (0, top))
        top += block.height
    return page


def _object(name: str) -> Cell:
    thing = Thing(name=name, center=(0.5, 0.5), size=0.9)
    return [draw(Scene(height=64, width=64, background="white", items=(thing,)))], name


def _cell(shown: Sample) -> Cell:
    return [draw(scene) for scene in (*shown.sources, shown.target)], shown.prompt.en


def main() -> None:
    """Write the overview to a file."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("output", type=Path)
    # The world has few colours: quantised to 192, the file is a third as large.
    overview().quantize(192, kmeans=3).save(parser.parse_args().output, optimize=True)


if __name__ == "__main__":
    main()
