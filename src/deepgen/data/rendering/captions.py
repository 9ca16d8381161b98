"""Prompts for rendered images: what is written, and what it looks like, in two languages."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from deepgen.data.records import PromptVariant
from deepgen.data.rendering.design import Block, Design, NamedColor, pick
from deepgen.data.rendering.faces import Face
from deepgen.data.rendering.texts import Text

LARGE, SMALL = 0.13, 0.06
"""Font sizes, as fractions of the shorter side, that are called large and small."""

ENGLISH_QUOTES = (('"', '"'), ("“", "”"), ("'", "'"))
CHINESE_QUOTES = (("“", "”"), ("「", "」"), ("『", "』"))

BACKGROUNDS = {
    "plain": ("a plain {color} background", "纯{color}背景"),
    "gradient": ("a {color} background with a soft gradient", "{color}渐变背景"),
    "paper": ("{color} paper with a fine grain", "带有细微颗粒的{color}纸面"),
    "stripes": ("a {color} background with faint diagonal stripes", "带有浅斜条纹的{color}背景"),
    "frame": ("a {color} background with a thin frame", "带细边框的{color}背景"),
    "photo": ("a {color}-tinted faded photograph", "蒙上{color}的淡化照片"),
}

WALLS = {
    "plain": ("in front of a plain {color} wall", "在纯{color}的墙前"),
    "gradient": ("in front of a {color} gradient", "在{color}渐变前"),
    "bricks": ("on a {color} brick wall", "在{color}砖墙上"),
    "photo": ("in a photographed scene", "在一处实景照片中"),
}

LAYOUTS = {
    "straight": ("", ""),
    "slanted": ("slanted", "倾斜排列"),
    "curved": ("curved along an arc", "沿弧线弯曲排列"),
    "vertical": ("written vertically", "竖排书写"),
    "perspective": ("seen at an angle", "从侧面看去"),
}

EFFECTS = {
    "none": ("", ""),
    "outline": ("", ""),
    "shadow": ("with a soft shadow", "带有柔和的阴影"),
}

ALIGNMENTS = {
    "left": ("aligned to the left", "左对齐"),
    "right": ("aligned to the right", "右对齐"),
    "center": ("centred", "居中"),
}

SUBJECTS = {
    "word": (
        (
            "An image with the text",
            "A graphic that reads",
            "Lettering that says",
            "Typography reading",
        ),
        ("一张写着{}的图片", "画面上写有{}", "文字设计，内容为{}"),
    ),
    "sentence": (
        ("An image with the sentence", "A card that says", "A slide that reads"),
        ("一张写着{}的卡片", "画面中写着一句话：{}", "一张带有句子{}的图片"),
    ),
    "sign": (
        ("A sign that reads", "A signboard saying", "A street sign with the text"),
        ("一块写着{}的牌子", "一个标牌，上面写着{}", "路牌上写着{}"),
    ),
}


def captions(
    design: Design, faces: Sequence[Face], ems: Sequence[int], rng: np.random.Generator
) -> tuple[PromptVariant, ...]:
    """A short and a long caption in each language."""
    face = faces[design.blocks[0].face]
    size = ems[0] / min(design.size)
    return (
        _prompt(_english_short(design, rng), "en", is_long=False),
        _prompt(_english_long(design, face, size, rng), "en", is_long=True),
        _prompt(_chinese_short(design, rng), "zh", is_long=False),
        _prompt(_chinese_long(design, face, size, rng), "zh", is_long=True),
    )


def _prompt(text: str, lang: str, *, is_long: bool) -> PromptVariant:
    return PromptVariant(
        text=text, kind="caption_long" if is_long else "caption_short", lang=lang, weight=1.0
    )


def _english_short(design: Design, rng: np.random.Generator) -> str:
    return f"{_english_subject(design, rng)}."


def _english_long(design: Design, face: Face, size: float, rng: np.random.Generator) -> str:
    sentences = [f"{_english_subject(design, rng)}."]
    how = [_font_in_english(face), f"in {design.ink.english}"]
    if size > LARGE or size < SMALL:
        how.insert(0, "large" if size > LARGE else "small")
    letters = ", ".join(each for each in how if each)
    arrangement = _arrangement(design.blocks, 0)
    extras = [each for each in (arrangement, EFFECTS[design.effect][0]) if each]
    subject = pick(("The lettering is", "The text is", "Its letters are"), rng)
    sentences.append(f"{subject} {', '.join([letters, *extras])}.")
    if design.kind == "sign":
        where = WALLS[design.background][0].format(color=_wall(design).english)
        sentences.append(f"The {design.ground.english} sign is {where}, seen at an angle.")
    else:
        ground = BACKGROUNDS[design.background][0].format(color=design.ground.english)
        sentences.append(pick((f"Background: {ground}.", f"It is set on {ground}."), rng))
    # What is quoted stays as it is written.
    return " ".join([sentences[0], *map(_articles, sentences[1:])])


def _english_subject(design: Design, rng: np.random.Generator) -> str:
    quote = _quoting(ENGLISH_QUOTES, [each.text for each in design.blocks], rng)
    texts = [quote(each.text) for each in design.blocks]
    if design.kind == "poster":
        opening = pick(("A poster titled", "A poster with the title", "An event poster:"), rng)
        parts = [f"{opening} {texts[0]}", f"below it {texts[1]}"]
        parts += [f"and at the bottom {each}" for each in texts[2:]]
        return ", ".join(parts)
    if design.kind == "poem":
        opening = pick(("A page with the poem", "A poem on a page, titled", "The poem"), rng)
        lines = _lines(design.blocks[1].text, quote, " / ")
        return f"{opening} {texts[0]}, which reads {lines}"
    return f"{pick(SUBJECTS[design.kind][0], rng)} {' and below it '.join(texts)}"


def _chinese_short(design: Design, rng: np.random.Generator) -> str:
    return f"{_chinese_subject(design, rng)}。"


def _chinese_long(design: Design, face: Face, size: float, rng: np.random.Generator) -> str:
    how = [f"文字为{design.ink.chinese}{_font_in_chinese(face)}"]
    if size > LARGE or size < SMALL:
        how.append("字号很大" if size > LARGE else "字号较小")
    how += [_arrangement(design.blocks, 1), EFFECTS[design.effect][1]]
    if design.kind == "sign":
        where = WALLS[design.background][1].format(color=_wall(design).chinese)
        ground = f"{design.ground.chinese}的牌子{where}，从侧面看去"
    else:
        ground = BACKGROUNDS[design.background][1].format(color=design.ground.chinese)
        ground = pick((f"背景是{ground}", f"衬在{ground}上"), rng)
    return f"{_chinese_subject(design, rng)}。{'，'.join(each for each in how if each)}。{ground}。"


def _chinese_subject(design: Design, rng: np.random.Generator) -> str:
    quote = _quoting(CHINESE_QUOTES, [each.text for each in design.blocks], rng)
    texts = [quote(each.text) for each in design.blocks]
    if design.kind == "poster":
        opening = pick(("一张海报，标题是", "海报的标题为", "活动海报，大字写着"), rng)
        parts = [f"{opening}{texts[0]}", f"下方写着{texts[1]}"]
        return "，".join([*parts, *(f"底部写着{each}" for each in texts[2:])])
    if design.kind == "poem":
        opening = pick(("一首题为", "页面上是一首诗，题目是", "诗歌"), rng)
        lines = _lines(design.blocks[1].text, quote, "")
        middle = "的诗，内容是" if opening == "一首题为" else "，内容是"
        return f"{opening}{texts[0]}{middle}{lines}"
    return pick(SUBJECTS[design.kind][1], rng).format("，下面写着".join(texts))


def _lines(text: Text, quote: Callable[[Text], str], between: str) -> str:
    """A poem in one line."""
    return quote(Text(text=between.join(text.text.split("\n"))))


def _quoting(
    quotes: Sequence[tuple[str, str]], texts: Sequence[Text], rng: np.random.Generator
) -> Callable[[Text], str]:
    """Quotation marks that none of the texts has."""
    joined = "".join(each.text for each in texts)
    usable = [pair for pair in quotes if not set("".join(pair)) & set(joined)]
    start, end = pick(usable or quotes[:1], rng)
    return lambda text: f"{start}{text.text}{end}"


def _wall(design: Design) -> NamedColor:
    return design.ground if design.wall is None else design.wall


def _arrangement(blocks: Sequence[Block], language: int) -> str:
    """How lines are placed; of signs their perspective says it."""
    layout = blocks[0].layout
    if layout == "curved" and len(blocks) > 1:
        return ("with the title curved along an arc", "标题沿弧线弯曲排列")[language]
    if layout == "straight":
        return ALIGNMENTS[blocks[0].align][language]
    return "" if layout == "perspective" else LAYOUTS[layout][language]


def _articles(text: str) -> str:
    """``an`` before vowels."""
    return re.sub(r"\ba (?=[aeiou])", "an ", text)


def _font_in_english(face: Face) -> str:
    weight = "bold" if face.is_bold else ""
    slope = "italic" if face.is_italic else ""
    style = face.style[0] if face.style else face.family
    return "in a " + " ".join(each for each in (weight, slope, style, "font") if each)


def _font_in_chinese(face: Face) -> str:
    weight = "粗" if face.is_bold else ""
    slope = "斜" if face.is_italic else ""
    style = face.style[1] if face.style else f"{face.family}字体"
    extra = f"{weight}{slope}"
    return f"{extra}体{style}" if extra else style
