"""Where the lines of a text break, how large it may be, and its mask.

Raqm (HarfBuzz) shapes and measures; uniseg finds where a line may break by UAX 14, so that no line
of Chinese begins with a comma.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from deepgen.data.rendering.design import Block
from deepgen.data.rendering.faces import Face
from deepgen.errors import DataError
from deepgen.extras import install_line

SMALLEST = {False: 22, True: 28}
"""Font sizes in pixels below which an OCR engine, and a latent of 8 x 8 pixels, lose letters: of
Latin and of Chinese texts."""

SHRINK = 0.94
"""Factor from one size that is tried to the next."""

LEADING = {False: 1.25, True: 1.4}
"""Height of a line, in font sizes."""


class DoesNotFitError(Exception):
    """A text is too long for its place at the smallest size."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fitted:
    """A text broken into lines at a size; lengths in pixels."""

    em: int
    lines: tuple[str, ...]
    width: float
    height: float
    leading: float

    @property
    def is_single(self) -> bool:
        """Whether it is one line."""
        return len(self.lines) == 1


def fit(
    block: Block,
    face: Face,
    place: tuple[int, int],
    *,
    shorter: int,
    angle: float,
    scale: int = 1,
    em: int | None = None,
) -> Fitted:
    """The largest size, up to that of the block, at which its text fits.

    Args:
        place: Width and height in pixels.
        shorter: Pixels of the image's shorter side.
        angle: See :class:`~deepgen.data.rendering.design.Design`.
        scale: How many times larger than the image all this is.
        em: Exactly this size, whether it fits or not.

    Raises:
        DoesNotFitError: It does not fit.
    """
    if em is not None:
        return _broken(block, face, em, _line_limit(block, place))
    # Lines of verse stay whole if any size allows it.
    own_lines = block.text.text.count("\n") + 1
    for most in (own_lines, math.inf) if own_lines > 1 else (math.inf,):
        size = float(block.em * shorter)
        while size >= SMALLEST[block.text.is_chinese] * scale:
            try:
                found = _broken(block, face, int(size), _line_limit(block, place))
            except DoesNotFitError:
                size *= SHRINK
                continue
            width, height = _extent(block, found, angle)
            if width <= place[0] and height <= place[1] and len(found.lines) <= most:
                return found
            size *= SHRINK
    raise DoesNotFitError(block.text.text)


def _line_limit(block: Block, place: tuple[int, int]) -> float:
    """Longest line in pixels."""
    if block.layout == "curved":
        return math.inf
    if block.layout == "vertical":
        return float(place[1])
    return place[0] * (0.85 if block.layout == "slanted" else 1.0)


def _broken(block: Block, face: Face, em: int, limit: float) -> Fitted:
    font = face.font(em)
    is_vertical = block.layout == "vertical"
    lines = [
        line
        for paragraph in block.text.text.split("\n")
        for line in _wrapped(paragraph, lambda text: _length(font, text, is_vertical), limit)
    ]
    leading = em * LEADING[block.text.is_chinese]
    long = max(_length(font, line, is_vertical) for line in lines)
    across = leading * len(lines)
    return Fitted(
        em=em,
        lines=tuple(lines),
        width=across if is_vertical else long,
        height=long if is_vertical else across,
        leading=leading,
    )


def _extent(block: Block, text: Fitted, angle: float) -> tuple[float, float]:
    """Width and height of a text after its layout."""
    radians = math.radians(abs(angle))
    if block.layout == "slanted":
        sine, cosine = math.sin(radians), math.cos(radians)
        return text.width * cosine + text.height * sine, text.width * sine + text.height * cosine
    if block.layout == "curved":
        if not text.is_single:
            return math.inf, math.inf
        radius = text.width / radians
        outer = radius + text.leading
        width = 2 * outer * math.sin(min(radians, math.pi) / 2)
        return width, outer - radius * math.cos(radians / 2) + text.leading
    return text.width, text.height


def _length(font: ImageFont.FreeTypeFont, text: str, is_vertical: bool) -> float:
    return font.getlength(text, direction="ttb" if is_vertical else "ltr")


def _wrapped(paragraph: str, length: Callable[[str], float], limit: float) -> Iterator[str]:
    """Lines that are at most so long.

    Raises:
        DoesNotFitError: A word is longer.
    """
    line = ""
    for unit in _units(paragraph):
        if length((line + unit).rstrip()) <= limit:
            line += unit
            continue
        if line:
            yield line.rstrip()
        if length(unit.rstrip()) > limit:
            raise DoesNotFitError(unit)
        line = unit
    yield line.rstrip()


@lru_cache(maxsize=1024)
def _units(paragraph: str) -> tuple[str, ...]:
    """The pieces between which a line may break."""
    from uniseg.linebreak import line_break_units

    return tuple(line_break_units(paragraph))


def check_line_breaking() -> None:
    """Refuse to begin without the library that breaks lines.

    Raises:
        DataError: It is not installed.
    """
    try:
        import uniseg.linebreak  # noqa: F401
    except ImportError:
        raise DataError(
            f"rendering text needs uniseg; install it with {install_line('render')}"
        ) from None


def draw_mask(
    block: Block, face: Face, text: Fitted, place: tuple[int, int], scale: int
) -> Image.Image:
    """The text in its place, upright, 255 where it is ink.

    Args:
        place: Width and height in pixels before scaling.
        scale: Factor of all lengths.

    Returns:
        A mask ``scale`` times as large as the place.
    """
    width, height = place[0] * scale, place[1] * scale
    mask = Image.new("L", (width, height), 0)
    draw = ImageDraw.Draw(mask)
    font = face.font(text.em * scale)
    language = "zh-Hans" if block.text.is_chinese else "en"
    leading = text.leading * scale
    if block.layout == "vertical":
        # Columns from right to left, each in the middle of its strip.
        right = width / 2 + leading * len(text.lines) / 2
        top = (height - text.height * scale) / 2 if text.is_single else 0
        for number, line in enumerate(text.lines):
            x = right - leading * (number + 0.5)
            draw.text((x, top), line, fill=255, font=font, direction="ttb", anchor="mt")
        return mask
    x, anchor = {"left": (0, "lm"), "center": (width // 2, "mm"), "right": (width, "rm")}[
        block.align
    ]
    first = (height - leading * len(text.lines)) / 2 + leading / 2
    for number, line in enumerate(text.lines):
        place_of_line = (x, first + leading * number)
        draw.text(place_of_line, line, fill=255, font=font, anchor=anchor, language=language)
    return mask
