"""Fonts for captions in any script, of those that the system has."""

from __future__ import annotations

from functools import cache

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

CANDIDATES = (
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJKsc-Regular.otf",
    "SourceHanSansSC-Regular.otf",
    "wqy-microhei.ttc",
    "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf",
    "PingFang.ttc",
    "STHeiti Medium.ttc",
    "Arial Unicode.ttf",
    "msyh.ttc",
    "simsun.ttc",
    "seguiemj.ttf",
    "NotoEmoji-Regular.ttf",
    "Symbola.ttf",
    "DejaVuSans.ttf",
)
"""Files with many scripts on Linux, macOS and Windows, which Pillow searches for by name."""

MISSING = "\U0010fffd"
"""A character that no font has, so that it is drawn as a font's sign for missing ones."""

REPLACEMENT = "?"


@cache
def fonts(size: int) -> tuple[Font, ...]:
    """Pillow's own font, then those of ``CANDIDATES`` that are installed."""
    found: list[Font] = [ImageFont.load_default(size)]
    for name in CANDIDATES:
        try:
            found.append(ImageFont.truetype(name, size))
        except OSError:
            continue
    return tuple(found)


def drawable(text: str, size: int) -> tuple[str, Font, bool]:
    """A text as it can be drawn, with the font that has most of it.

    Returns:
        The text, with ``?`` for what the font lacks; the font; and whether it has everything.
    """
    characters = sorted(set(text) - {" "})
    lacking = [{each for each in characters if not _has(font, each)} for font in fonts(size)]
    best = min(range(len(lacking)), key=lambda index: len(lacking[index]))
    shown = "".join(REPLACEMENT if each in lacking[best] else each for each in text)
    return shown, fonts(size)[best], not lacking[best]


def _has(font: Font, character: str) -> bool:
    return bytes(font.getmask(character)) != bytes(font.getmask(MISSING))
