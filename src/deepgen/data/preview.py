"""A contact sheet: samples of a data set with their prompts."""

from __future__ import annotations

import re
import textwrap
import unicodedata
import warnings

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from deepgen.data.dataset import DataSet
from deepgen.data.randomness import key_of, permuted
from deepgen.data.records import ImageRef, Record
from deepgen.images.fonts import drawable
from deepgen.images.io import decode_image

GAP = 8
LINE_HEIGHT = 14
FONT_SIZE = 12
CHARACTERS_PER_PIXEL = 0.16
"""Width of the default font at that size, so that no line is wider than its cell."""
TEXT_LINES = 4
INK, PAPER, FRAME = (20, 20, 20), (255, 255, 255), (200, 200, 200)


def contact_sheet(
    data: DataSet, *, count: int = 24, columns: int = 4, cell: int = 192, seed: int = 0
) -> Image.Image:
    """Some samples as one image; an edit shows its references, an arrow and the target.

    Texts use Pillow's own font or, for other scripts, one of the system's; a warning counts the
    captions with characters that none of them has.

    Args:
        cell: Side in pixels of the square that an image is fitted into.

    Raises:
        ImageError: An image is damaged.
    """
    count = min(count, len(data))
    rows = np.sort(permuted(np.arange(count), len(data), key_of(seed, "preview")))
    records = [data.record(int(row)) for row in rows]
    # Every place is as wide as the sample with the most images, so that columns line up.
    images = max(len(record.images) for record in records)
    width = images * (cell + GAP)
    height = cell + (TEXT_LINES + 1) * LINE_HEIGHT + 2 * GAP
    columns = max(1, min(columns * 2 // (images + 1), count))
    lines = -(-count // columns)
    sheet = Image.new("RGB", (columns * (width + GAP) + GAP, lines * (height + GAP) + GAP), PAPER)
    incomplete = 0
    for number, record in enumerate(records):
        line, column = divmod(number, columns)
        corner = (GAP + column * (width + GAP), GAP + line * (height + GAP))
        incomplete += not _draw_sample(sheet, corner, data, record, cell=cell, width=width)
    if incomplete:
        warnings.warn(
            f"captions with characters that no font here has, shown as ?: {incomplete}; install a "
            "font such as Noto Sans CJK or Noto Emoji",
            stacklevel=2,
        )
    return sheet


def _draw_sample(
    sheet: Image.Image,
    corner: tuple[int, int],
    data: DataSet,
    record: Record,
    *,
    cell: int,
    width: int,
) -> bool:
    """Draw one sample; whether its texts could be drawn in full."""
    left, top = corner
    draw = ImageDraw.Draw(sheet)
    shown: list[ImageRef] = [*record.references, record.target]
    for number, each in enumerate(shown):
        image = decode_image(data.read(each), name=f"an image of {record.sample_id}")
        image = ImageOps.contain(image, (cell, cell))
        x = left + number * (cell + GAP)
        sheet.paste(image, (x, top))
        draw.rectangle((x, top, x + image.width - 1, top + image.height - 1), outline=FRAME)
        if number == len(shown) - 1 and record.references:
            # Between the last reference and the target.
            middle = top + cell // 2
            draw.polygon([(x - GAP, middle - 6), (x - 1, middle), (x - GAP, middle + 6)], fill=INK)
    characters = max(8, int(width * CHARACTERS_PER_PIXEL))
    text = " ".join(record.prompts[0].text.split())
    words = wrapped(text, characters)
    size = f"{record.target.width}x{record.target.height}"
    heading = textwrap.shorten(f"{record.sample_id} {size}", characters, placeholder="...")
    complete = True
    for line, content in enumerate([heading, *words]):
        place = (left, top + cell + GAP + line * LINE_HEIGHT)
        drawn, font, whole = drawable(content, FONT_SIZE)
        complete &= whole
        draw.text(place, drawn, fill=INK, font=font)
    return complete


def wrapped(text: str, characters: int) -> list[str]:
    """A text in at most ``TEXT_LINES`` lines; wide characters, as of Chinese, count as two."""
    lines, line, width = [], "", 0
    for word in re.findall(r"\s*\S+", text):
        pieces = [word] if _width(word) <= characters and word.isascii() else list(word)
        for piece in pieces:
            if width + _width(piece) > characters:
                lines.append(line)
                line, width = "", 0
                piece = piece.lstrip()
            line, width = line + piece, width + _width(piece)
    lines.append(line)
    if len(lines) > TEXT_LINES:
        last = lines[TEXT_LINES - 1]
        while _width(last) > characters - 4:
            last = last[:-1]
        lines = [*lines[: TEXT_LINES - 1], f"{last} ..."]
    return [each for each in lines if each]


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text)
