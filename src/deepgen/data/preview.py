"""A contact sheet: samples of a data set with their prompts."""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from deepgen.data.dataset import DataSet
from deepgen.data.randomness import key_of, permuted
from deepgen.data.records import Record
from deepgen.images.fonts import drawable
from deepgen.images.io import decode_image

GAP = 8
ARROW = 20
"""Pixels between the references and the target of an edit."""
LINE_HEIGHT = 14
FONT_SIZE = 12
CHARACTERS_PER_PIXEL = 0.16
"""Of the default font at that size, so that no line is wider than its sample."""
TEXT_LINES = 4
INK, PAPER, FRAME = (20, 20, 20), (255, 255, 255), (200, 200, 200)

Place = tuple[int, int]
"""Left and top, in pixels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Shown:
    """A sample as it is drawn: images side by side, and lines of text below the tallest."""

    references: list[Image.Image]
    target: Image.Image
    lines: list[str]
    width: int
    height: int


def contact_sheet(
    data: DataSet, *, count: int = 24, columns: int = 4, cell: int = 192, seed: int = 0
) -> Image.Image:
    """Some samples as one image; an edit shows its references, an arrow and the target.

    Samples follow each other in lines as words do. Texts use Pillow's own font or, for other
    scripts, one of the system's; a warning counts the captions with characters that none of them
    has. Of a mixture only samples that it uses are shown.

    Args:
        columns: Squares that a line has room for; a single sample may be wider.
        cell: Side in pixels of the square that an image is fitted into.

    Raises:
        ImageError: An image is damaged.
    """
    used = np.flatnonzero(data.used)
    count = min(count, len(used))
    rows = np.sort(used[permuted(np.arange(count), len(used), key_of(seed, "preview"))])
    samples = [_shown(data, data.record(row), cell) for row in rows.tolist()]
    places, width, height = _laid_out(samples, columns * (cell + 2 * GAP) - 2 * GAP)
    sheet = Image.new("RGB", (width + 2 * GAP, height + 2 * GAP), PAPER)
    incomplete = sum(
        not _draw_sample(sheet, (GAP + left, GAP + top), sample)
        for sample, (left, top) in zip(samples, places, strict=True)
    )
    if incomplete:
        warnings.warn(
            f"captions with characters that no font here has, shown as ?: {incomplete}; install a "
            "font such as Noto Sans CJK or Noto Emoji",
            stacklevel=2,
        )
    return sheet


def _shown(data: DataSet, record: Record, cell: int) -> _Shown:
    """A sample's images, reduced, and its text in lines of their width, at least ``cell``."""
    *references, target = [
        ImageOps.contain(
            decode_image(data.read(each), name=f"an image of {record.sample_id}"), (cell, cell)
        )
        for each in (*record.references, record.target)
    ]
    width = sum(each.width + GAP for each in references) + target.width
    width = max(cell, width + (ARROW - GAP if references else 0))
    characters = max(8, int(width * CHARACTERS_PER_PIXEL))
    heading = _heading(record, characters)
    lines = [heading, *wrapped(" ".join(record.prompts[0].text.split()), characters)]
    height = max(each.height for each in (*references, target)) + GAP + len(lines) * LINE_HEIGHT
    return _Shown(references=references, target=target, lines=lines, width=width, height=height)


def _heading(record: Record, characters: int) -> str:
    """Id and size of a sample; of a long id its end."""
    size = f"{record.target.width}x{record.target.height}"
    room = characters - len(size) - 1
    name = record.sample_id
    return f"{name if len(name) <= room else f'...{name[3 - room :]}'} {size}"


def _laid_out(samples: Sequence[_Shown], room: int) -> tuple[list[Place], int, int]:
    """The place of each sample in lines of ``room`` pixels, and the size of all."""
    places: list[Place] = []
    left = top = width = height = 0
    for each in samples:
        if left and left + each.width > room:
            left, top = 0, height + 2 * GAP
        places.append((left, top))
        width, height = max(width, left + each.width), max(height, top + each.height)
        left += each.width + 2 * GAP
    return places, width, height


def _draw_sample(sheet: Image.Image, place: Place, sample: _Shown) -> bool:
    """Draw one sample; whether its texts could be drawn in full."""
    left, top = place
    draw = ImageDraw.Draw(sheet)
    tallest = max(each.height for each in (*sample.references, sample.target))
    x = left
    for each in sample.references:
        _draw_image(sheet, (x, top), each)
        x += each.width + GAP
    if sample.references:
        x += ARROW - GAP
        middle = top + tallest // 2
        draw.polygon([(x - 14, middle - 7), (x - 5, middle), (x - 14, middle + 7)], fill=INK)
    _draw_image(sheet, (x, top), sample.target)
    complete = True
    for number, content in enumerate(sample.lines):
        drawn, font, whole = drawable(content, FONT_SIZE)
        complete &= whole
        draw.text((left, top + tallest + GAP + number * LINE_HEIGHT), drawn, fill=INK, font=font)
    return complete


def _draw_image(sheet: Image.Image, place: Place, image: Image.Image) -> None:
    """An image with a thin frame."""
    x, y = place
    sheet.paste(image, place)
    frame = (x, y, x + image.width - 1, y + image.height - 1)
    ImageDraw.Draw(sheet).rectangle(frame, outline=FRAME)


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
