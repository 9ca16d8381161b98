"""What a rendered image looks like, drawn from a random generator: all but its pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

import numpy as np

from deepgen.config.sizes import Size, fix_pixels
from deepgen.data.rendering.faces import Face
from deepgen.data.rendering.texts import Text, compose
from deepgen.data.rendering.vocabulary import Language, TextKind

T = TypeVar("T")

Align = Literal["left", "center", "right"]

Layout = Literal["straight", "slanted", "curved", "vertical", "perspective"]

Background = Literal["plain", "gradient", "paper", "stripes", "frame", "bricks", "photo"]

Effect = Literal["none", "outline", "shadow"]

Color = tuple[int, int, int]

Box = tuple[float, float, float, float]
"""Left, top, right and bottom, as fractions of the width and height."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NamedColor:
    """A colour and what it is called."""

    rgb: Color
    english: str
    chinese: str

    @property
    def luminance(self) -> float:
        """Relative luminance of WCAG 2, from 0 to 1."""
        linear = [
            each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4
            for each in (channel / 255 for channel in self.rgb)
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


COLORS = tuple(
    NamedColor(rgb=rgb, english=english, chinese=chinese)
    for rgb, english, chinese in (
        ((20, 20, 20), "black", "黑色"),
        ((250, 250, 250), "white", "白色"),
        ((200, 30, 35), "red", "红色"),
        ((120, 15, 30), "dark red", "深红色"),
        ((240, 130, 30), "orange", "橙色"),
        ((250, 215, 60), "yellow", "黄色"),
        ((40, 140, 60), "green", "绿色"),
        ((20, 70, 45), "dark green", "深绿色"),
        ((20, 130, 135), "teal", "青色"),
        ((40, 100, 210), "blue", "蓝色"),
        ((20, 35, 90), "navy blue", "藏青色"),
        ((110, 50, 150), "purple", "紫色"),
        ((240, 160, 185), "pink", "粉色"),
        ((105, 65, 35), "brown", "棕色"),
        ((125, 125, 125), "grey", "灰色"),
        ((245, 235, 210), "cream", "米色"),
        ((170, 215, 240), "light blue", "浅蓝色"),
    )
)

CONTRAST = 4.5
"""Least contrast of text and background: level AA of WCAG 2, for text of any size."""

SHAPES: tuple[Size, ...] = ((1, 1), (3, 4), (4, 3), (2, 3), (3, 2), (9, 16), (16, 9))
"""Height to width."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """One text, and where and how it is written."""

    text: Text
    face: int
    """Number of the font."""
    box: Box
    em: float
    """Font size as a fraction of the image's shorter side; smaller where the text needs it."""
    align: Align = "center"
    layout: Layout = "straight"


@dataclass(frozen=True, kw_only=True, slots=True)
class Design:
    """All that decides an image, with the fonts and photographs."""

    kind: TextKind
    language: Language
    size: Size
    blocks: tuple[Block, ...]
    ink: NamedColor
    ground: NamedColor
    background: Background
    effect: Effect = "none"
    angle: float = 0.0
    """Degrees, counterclockwise, of slanted text; of curved text, what its line spans: below 0 it
    bends downwards."""
    corners: tuple[tuple[float, float], ...] = field(default=())
    """Of a sign in perspective, clockwise from the top left, as fractions of width and height."""
    wall: NamedColor | None = None
    """Colour behind a sign."""
    photo: int = 0
    """Number of the photograph."""
    seed: int = 0
    """Of textures."""

    def recolored(self, rng: np.random.Generator) -> Design:
        """The same with another colour of the text."""
        options = [each for each in _inks(self.ground) if each != self.ink]
        return replace(self, ink=pick(options, rng))


@dataclass(frozen=True, kw_only=True, slots=True)
class Choices:
    """What designs are drawn from."""

    faces: Sequence[Face]
    photos: int
    """How many photographs there are."""
    kinds: Sequence[TextKind]
    languages: Sequence[Language]
    own: Sequence[str]
    """Texts of the user."""
    side: int


def draw_design(choices: Choices, rng: np.random.Generator) -> Design:
    """A design whose fonts have all characters of its texts.

    Raises:
        ValueError: No font has those of a text.
    """
    kind = pick(choices.kinds, rng)
    language = pick(choices.languages, rng)
    texts = compose(kind, language, rng, choices.own)
    rows, columns = pick(SHAPES if kind != "poem" else SHAPES[:5], rng)
    size = fix_pixels(64 * rows, 64 * columns, choices.side)
    face = _font_for(choices.faces, texts, rng)
    if choices.faces[face].has_capitals_only:
        # It writes small letters as capitals: so captions are exact.
        texts = tuple(each.upper() for each in texts)
    ground = pick([each for each in COLORS if len(_inks(each)) > 1], rng)
    design = Design(
        kind=kind,
        language=language,
        size=size,
        blocks=(),
        ink=pick(_inks(ground), rng),
        ground=ground,
        background=_background(kind, choices.photos, rng),
        effect=pick(("none", "none", "outline", "shadow"), rng),
        wall=pick([each for each in COLORS if each != ground], rng),
        photo=int(rng.integers(max(choices.photos, 1))),
        seed=int(rng.integers(2**31)),
    )
    if kind == "sign":
        return _sign(design, texts, face, rng)
    if kind in ("word", "sentence"):
        return _single(design, texts[0], face, choices.faces[face].is_vertical, rng)
    if kind == "poem":
        return _poem(design, texts, face, choices.faces[face].is_vertical, rng)
    return _poster(design, texts, face, rng)


def _single(
    design: Design, text: Text, face: int, may_be_vertical: bool, rng: np.random.Generator
) -> Design:
    """One text in the middle, in any layout that it suits."""
    is_short = len(text.text) <= (10 if text.is_chinese else 24)
    layouts: list[Layout] = ["straight", "straight", "slanted"]
    if is_short:
        layouts.append("curved")
    is_han = design.language == "zh" and not any(each.isascii() for each in text.text)
    if is_han and may_be_vertical:
        layouts.append("vertical")
    layout = pick(layouts, rng)
    em = rng.uniform(0.1, 0.3) if design.kind == "word" else rng.uniform(0.07, 0.14)
    top = rng.uniform(0.06, 0.3) if layout == "straight" else 0.06
    box = (0.07, top, 0.93, min(0.94, top + 0.64) if layout == "straight" else 0.94)
    angle = 0.0
    if layout == "slanted":
        angle = rng.uniform(6, 22) * rng.choice((-1, 1))
    if layout == "curved":
        # Few letters on a long arc would have a tiny radius, and overlap at their feet.
        most = len(text.text) * (28 if text.is_chinese else 14)
        angle = min(rng.uniform(50, 110), most) * rng.choice((-1, 1, 1))
    aligns: tuple[Align, ...] = ("center", "center", "left", "right")
    block = Block(
        text=text, face=face, box=box, em=float(em), align=pick(aligns, rng), layout=layout
    )
    return replace(design, blocks=(block,), angle=float(angle))


def _poster(design: Design, texts: Sequence[Text], face: int, rng: np.random.Generator) -> Design:
    """A title above, details below it, and a line at the bottom."""
    aligns: tuple[Align, ...] = ("center", "center", "left")
    align = pick(aligns, rng)
    title_bottom = rng.uniform(0.38, 0.5)
    boxes: list[Box] = [
        (0.07, 0.08, 0.93, title_bottom),
        (0.07, title_bottom + 0.06, 0.93, 0.76),
        (0.07, 0.82, 0.93, 0.93),
    ]
    ems = (rng.uniform(0.11, 0.2), rng.uniform(0.06, 0.09), rng.uniform(0.055, 0.075))
    is_curved = align == "center" and len(texts[0].text) <= 18 and rng.random() < 0.25
    blocks = [
        Block(text=text, face=face, box=box, em=float(em), align=align)
        for text, box, em in zip(texts, boxes, ems, strict=False)
    ]
    if is_curved:
        blocks[0] = replace(blocks[0], layout="curved")
    return replace(design, blocks=tuple(blocks), angle=float(rng.uniform(50, 90)))


def _poem(
    design: Design,
    texts: Sequence[Text],
    face: int,
    may_be_vertical: bool,
    rng: np.random.Generator,
) -> Design:
    """A title and lines; Chinese ones also in columns, from right to left."""
    title, body = texts
    if design.language == "zh" and may_be_vertical and rng.random() < 0.5:
        blocks = (
            Block(text=title, face=face, box=(0.8, 0.08, 0.92, 0.92), em=0.1, layout="vertical"),
            Block(text=body, face=face, box=(0.08, 0.12, 0.74, 0.92), em=0.085, layout="vertical"),
        )
        if not any(each.isascii() and each.isalnum() for each in title.text):
            return replace(design, blocks=blocks)
    aligns: tuple[Align, ...] = ("center", "left")
    align = pick(aligns, rng)
    return replace(
        design,
        blocks=(
            Block(text=title, face=face, box=(0.08, 0.08, 0.92, 0.26), em=0.11, align=align),
            Block(text=body, face=face, box=(0.08, 0.31, 0.92, 0.93), em=0.075, align=align),
        ),
    )


def _sign(design: Design, texts: Sequence[Text], face: int, rng: np.random.Generator) -> Design:
    """A panel in perspective with one or two lines."""
    half = 0.52 if len(texts) > 1 else 0.9
    boxes: list[Box] = [(0.08, 0.1, 0.92, half), (0.08, 0.6, 0.92, 0.9)]
    blocks = tuple(
        Block(text=text, face=face, box=box, em=float(em))
        for text, box, em in zip(texts, boxes, (rng.uniform(0.14, 0.22), 0.09), strict=False)
    )
    left, right = rng.uniform(0.05, 0.12), rng.uniform(0.88, 0.95)
    top, bottom = rng.uniform(0.12, 0.25), rng.uniform(0.7, 0.85)
    # One side is further away than the other, and so shorter.
    near, far = 0.0, float(rng.uniform(0.04, 0.11))
    ends = (near, far) if rng.random() < 0.5 else (far, near)
    tilt = float(rng.uniform(-0.03, 0.03))
    corners = (
        (left, top + ends[0] + tilt),
        (right, top + ends[1] - tilt),
        (right, bottom - ends[1] - tilt),
        (left, bottom - ends[0] + tilt),
    )
    return replace(
        design,
        blocks=tuple(replace(each, layout="perspective") for each in blocks),
        corners=tuple((float(x), float(y)) for x, y in corners),
    )


def _background(kind: TextKind, photos: int, rng: np.random.Generator) -> Background:
    if kind == "sign":
        return "photo" if photos else pick(("bricks", "gradient", "plain"), rng)
    options: list[Background] = ["plain", "plain", "gradient", "paper", "stripes", "frame"]
    return pick([*options, "photo", "photo"] if photos else options, rng)


def _font_for(faces: Sequence[Face], texts: Sequence[Text], rng: np.random.Generator) -> int:
    """Number of a font that has all characters.

    Raises:
        ValueError: There is none.
    """
    text = "".join(each.text for each in texts)
    # Chinese fonts have Latin letters too, but Latin texts are for the many Latin fonts.
    is_chinese = any(each.is_chinese for each in texts)
    wanted = [n for n, each in enumerate(faces) if each.is_chinese == is_chinese]
    fitting = [number for number in wanted if faces[number].covers(text)]
    fitting = fitting or [n for n, each in enumerate(faces) if each.covers(text)]
    if not fitting:
        raise ValueError(f"no font has all characters of {text!r}")
    return pick(fitting, rng)


def _inks(ground: NamedColor) -> list[NamedColor]:
    """Colours that can be read on a ground."""
    return [each for each in COLORS if contrast(each, ground) >= CONTRAST]


def contrast(first: NamedColor, second: NamedColor) -> float:
    """The contrast ratio of WCAG 2, from 1 to 21."""
    low, high = sorted((first.luminance, second.luminance))
    return (high + 0.05) / (low + 0.05)


def pick(options: Sequence[T], rng: np.random.Generator) -> T:
    """One of the options, each equally likely."""
    return options[int(rng.integers(len(options)))]
