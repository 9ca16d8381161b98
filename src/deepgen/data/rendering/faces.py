"""The fonts of a folder: which face of a file is used, what it looks like, what it can write."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import ImageFont, features

from deepgen.errors import DataError
from deepgen.images.fonts import MISSING

SUFFIXES = (".ttf", ".otf", ".ttc", ".otc")

LATIN_SAMPLE = "AZaz09&!?.,:'"

CHINESE_SAMPLE = "永的一是国东汉字，。"

VERTICAL_SAMPLE = "永鹊总喜国的"

SIMPLIFIED = re.compile(r"\b(SC|CN)\b")
"""Marks the faces of a collection whose Chinese characters have the shapes of the mainland."""

TOO_THIN = re.compile(r"hairline|thin|extra ?light", re.IGNORECASE)
"""Strokes of less than a pixel at usual sizes: nobody can read them."""

STYLES: tuple[tuple[str, str, str], ...] = (
    (r"script|hand|dancing|brush", "handwritten", "手写体"),
    (r"kai", "brush-style Kai", "楷体"),
    (r"mono|courier|code|typewriter", "monospaced", "等宽字体"),
    (r"slab", "slab serif", "粗衬线体"),
    (r"lobster|pacifico", "decorative", "装饰体"),
    (r"sans|hei\b|lato|inter|arial|helvetica|gothic", "sans-serif", "无衬线体"),
    (r"serif|ming|song|garamond|roman|times", "serif", "衬线体"),
)
"""Pattern of a family's name, and what such fonts are called in both languages."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Face:
    """One face of a font file."""

    path: Path
    index: int
    """Of the face within a collection."""
    family: str
    style: tuple[str, str] | None
    """In English and in Chinese; None where the name says nothing."""
    is_bold: bool
    is_italic: bool
    is_chinese: bool
    is_latin: bool
    is_vertical: bool
    """Whether each character lies in its own cell of a column; some fonts lack what that takes."""
    has_capitals_only: bool
    """Whether it writes small letters as capitals, so that only capitals are what they seem."""

    def font(self, size: int) -> ImageFont.FreeTypeFont:
        """The face at a size in pixels, shaped by HarfBuzz through Raqm."""
        return _font(self.path, self.index, size)

    def covers(self, text: str) -> bool:
        """Whether it has all characters of a text."""
        return all(_has(self.path, self.index, each) for each in set(text) if not each.isspace())


def find_faces(folder: Path) -> list[Face]:
    """The usable faces of all font files below a folder, in the order of their paths.

    Of a collection those for simplified Chinese are used, or else the first.

    Raises:
        DataError: There is none, or Pillow lacks the library that shapes text.
    """
    if not features.check("raqm"):
        raise DataError(
            "this Pillow cannot shape text: it needs Raqm and, at run time, FriBiDi; install "
            "libfribidi0 (Debian), or a Pillow built with Raqm"
        )
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder} of fonts; check the path")
    paths = [each for each in sorted(folder.rglob("*")) if each.suffix.lower() in SUFFIXES]
    faces = [face for path in paths for face in _faces_of(path)]
    if not faces:
        raise DataError(
            f"{folder} has no font that can be used; expected files ending in {', '.join(SUFFIXES)}"
        )
    return faces


def _faces_of(path: Path) -> list[Face]:
    found = []
    index = 0
    while True:
        try:
            font = ImageFont.truetype(path, 24, index=index)
        except OSError:
            break
        found.append((index, *font.getname()))
        index += 1
    named = [each for each in found if SIMPLIFIED.search(str(each[1]))]
    return [
        _face(path, index, family or path.stem, style or "")
        for index, family, style in named or found[:1]
        if not TOO_THIN.search(f"{style} {path.stem}")
    ]


def _face(path: Path, index: int, family: str, style: str) -> Face:
    name = f"{family} {style} {path.stem}".lower()
    called = next((each[1:] for each in STYLES if re.search(each[0], family.lower())), None)
    probe = ImageFont.truetype(path, 24, index=index)
    is_chinese = all(_has(path, index, each) for each in CHINESE_SAMPLE)
    return Face(
        path=path,
        index=index,
        family=family,
        style=called,
        is_bold=re.search(r"bold|black|heavy", name) is not None,
        is_italic=re.search(r"italic|oblique", name) is not None,
        is_chinese=is_chinese,
        is_latin=all(_has(path, index, each) for each in LATIN_SAMPLE),
        is_vertical=is_chinese and _is_vertical(_font(path, index, 100)),
        has_capitals_only=bytes(probe.getmask("a")) == bytes(probe.getmask("A")),
    )


def _is_vertical(font: ImageFont.FreeTypeFont) -> bool:
    """Whether the ink of characters is where a column has them."""
    boxes = [font.getbbox(each, direction="ttb", anchor="mt") for each in VERTICAL_SAMPLE]
    return all(
        top >= -0.05 * font.size and bottom <= 1.05 * font.size for _, top, _, bottom in boxes
    )


@lru_cache(maxsize=512)
def _font(path: Path, index: int, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size, index=index, layout_engine=ImageFont.Layout.RAQM)


@lru_cache(maxsize=1 << 16)
def _has(path: Path, index: int, character: str) -> bool:
    font = _font(path, index, 24)
    return bytes(font.getmask(character)) != bytes(font.getmask(MISSING))
