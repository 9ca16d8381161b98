"""Scenes in words, English and Chinese, with paraphrases.

Functions that take a ``random.Random`` choose among names and sentence forms of the same meaning.
What a sentence leaves out has its default: own colours, middle size, white background.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from deepgen.mini.world.knowledge import CATEGORIES, OBJECTS, Phrase
from deepgen.mini.world.layout import OPPOSITE, Relation, relation
from deepgen.mini.world.scene import Background, Scene, Thing, Tint

Forms = tuple[tuple[str, ...], tuple[str, ...]]
"""Sentence forms with named gaps: (English, Chinese)."""

# A lone object this small or this large is called so; the sampler stays clear of both edges.
SMALL = 0.36
LARGE = 0.84

COLORS: dict[Background | Tint, Phrase] = {
    "white": Phrase("white", "白色"),
    "gray": Phrase("gray", "灰色"),
    "red": Phrase("red", "红色"),
    "orange": Phrase("orange", "橙色"),
    "yellow": Phrase("yellow", "黄色"),
    "green": Phrase("green", "绿色"),
    "blue": Phrase("blue", "蓝色"),
    "purple": Phrase("purple", "紫色"),
    "pink": Phrase("pink", "粉色"),
    "brown": Phrase("brown", "棕色"),
}

# Chinese counts things with 两 and calculates with 二.
NUMBERS = tuple(
    Phrase(en, zh)
    for en, zh in zip(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight"),
        "零一二三四五六七八",
        strict=True,
    )
)

SIDES: dict[Relation, Phrase] = {
    "left of": Phrase("to the left of", "左边"),
    "right of": Phrase("to the right of", "右边"),
    "above": Phrase("above", "上面"),
    "below": Phrase("below", "下面"),
}

_SIZES = {"small": Phrase("small ", "小"), "large": Phrase("large ", "大"), None: Phrase("", "")}

_RELATED: Forms = (("{a} {side} {b}",), ("{a}在{b}的{side}", "{b}的{side}是{a}"))
_WORD: Forms = (
    ('the word "{word}"', '"{word}" written in capitals', 'a sign that says "{word}"'),
    ("文字“{word}”", "写着“{word}”的字样", "单词“{word}”"),
)
_CAPTIONED: Forms = (
    ('{a} with the word "{word}" below it', '{a}, "{word}" written underneath'),
    ("{a}，下面写着“{word}”", "{a}和它下方的文字“{word}”"),
)
_STYLED: dict[str, Forms] = {
    "colour": (
        ("{x}", "{x}", "a picture of {x}", "draw {x}"),
        ("{x}", "{x}", "一幅画：{x}", "画{x}"),
    ),
    "line": (
        ("a line drawing of {x}", "{x} in outline only", "a black line drawing of {x}"),
        ("线稿：{x}", "黑色线条画：{x}", "只用线条画{x}"),
    ),
}
_BACKED: Forms = (
    ("{x} on {on}", "{x} in front of {on}", "{x}, {color} background"),
    ("{x}，{color}背景", "{color}背景上，{x}", "{x}，背景是{color}"),
)
_SET_APART: Forms = (
    ("on {on}: {x}", "{x}; the background is {color}", "{x}; {color} background"),
    ("{color}背景：{x}", "{x}；背景是{color}", "{x}；{color}背景"),
)


def fill(forms: Forms, rng: random.Random, **slots: Phrase) -> Phrase:
    """One English and one Chinese sentence, their gaps filled in either language."""
    english, chinese = (rng.choice(choices) for choices in forms)
    return Phrase(
        english.format(**{name: phrase.en for name, phrase in slots.items()}),
        chinese.format(**{name: phrase.zh for name, phrase in slots.items()}),
    )


def with_article(words: str) -> str:
    """``a`` or ``an`` before English words."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def plain_name(name: str, rng: random.Random) -> Phrase:
    """What an object is called, now and then by a synonym."""
    noun = OBJECTS[name]
    if noun.synonyms and rng.random() < 0.25:
        return rng.choice(noun.synonyms)
    return Phrase(noun.singular, noun.chinese)


def an_object(
    name: str, rng: random.Random, tint: Tint | None = None, size: str | None = None
) -> Phrase:
    """``a small red apple``, ``一个红色的小苹果``."""
    noun = OBJECTS[name]
    # Chinese synonyms often begin with "small" themselves.
    called = plain_name(name, rng) if size is None else Phrase(noun.singular, noun.chinese)
    color, sized = _tinted(tint), _SIZES[size]
    return Phrase(
        with_article(f"{sized.en}{color.en}{called.en}"),
        f"一{noun.measure}{color.zh}{sized.zh}{called.zh}",
    )


def the_object(name: str, rng: random.Random, tint: Tint | None = None) -> Phrase:
    """``the red apple``, ``红色的苹果``."""
    called, color = plain_name(name, rng), _tinted(tint)
    return Phrase(f"the {color.en}{called.en}", f"{color.zh}{called.zh}")


def several(count: int, name: str, tint: Tint | None = None) -> Phrase:
    """``two red apples``, ``两个红色的苹果``."""
    noun, color = OBJECTS[name], _tinted(tint)
    english = noun.singular if count == 1 else noun.plural
    return Phrase(
        f"{NUMBERS[count].en} {color.en}{english}",
        f"{counted(count)}{noun.measure}{color.zh}{noun.chinese}",
    )


def counted(count: int) -> str:
    """The Chinese number that stands before a measure word."""
    return "两" if count == 2 else NUMBERS[count].zh


def background(color: Background) -> Phrase:
    """``a blue background``, ``蓝色背景``."""
    return Phrase(f"{with_article(COLORS[color].en)} background", f"{COLORS[color].zh}背景")


def listed(phrases: Sequence[Phrase], *, either: bool = False) -> Phrase:
    """``a, b and c`` or ``a, b or c``."""
    last_en, last_zh = ("or", "或") if either else ("and", "和")
    english, chinese = [p.en for p in phrases], [p.zh for p in phrases]
    if len(phrases) == 1:
        return phrases[0]
    return Phrase(
        f"{', '.join(english[:-1])} {last_en} {english[-1]}",
        f"{'、'.join(chinese[:-1])}{last_zh}{chinese[-1]}",
    )


def described(name: str, fact: Phrase) -> Phrase:
    """``the animal that gives milk``, ``产奶的动物``."""
    category = CATEGORIES[OBJECTS[name].category]
    return Phrase(f"the {category.en} that {fact.en}", f"{fact.zh}的{category.zh}")


def describe(scene: Scene, rng: random.Random, *, relate: bool = True) -> Phrase:
    """A scene in words; ``relate`` says where two objects stand, else only which they are."""
    styles = {thing.style for thing in scene.things}
    subject = fill(
        _STYLED["line" if "line" in styles else "colour"], rng, x=_subject(scene, rng, relate)
    )
    return on_background(subject, scene.background, rng)


def on_background(
    subject: Phrase, color: Background, rng: random.Random, *, apart: bool = False
) -> Phrase:
    """Mention the background too; white mostly goes without mention.

    ``apart`` keeps it out of a long subject, whose last words it would seem to belong to.
    """
    if color == "white" and rng.random() < 0.7:
        return subject
    forms = _SET_APART if apart else _BACKED
    return fill(forms, rng, x=subject, on=background(color), color=COLORS[color])


def _subject(scene: Scene, rng: random.Random, relate: bool) -> Phrase:
    things, words = scene.things, scene.words
    if not things and not words:
        return Phrase("nothing", "空无一物")
    if not things:
        return fill(_WORD, rng, word=Phrase(words[0].text, words[0].text))
    if words:
        text = Phrase(words[0].text, words[0].text)
        return fill(_CAPTIONED, rng, a=_all(things, rng), word=text)
    if len(things) == 1:
        return an_object(things[0].name, rng, things[0].tint, _size(things[0]))
    if relate and len(things) == 2 and things[0].name != things[1].name:
        first, second = things if rng.random() < 0.5 else (things[1], things[0])
        stands = relation(first, second, scene)
        if stands is not None:
            return related(_one(first, rng), stands, _one(second, rng), rng)
    return _all(things, rng)


def related(first: Phrase, stands: Relation, second: Phrase, rng: random.Random) -> Phrase:
    """``a to the left of b``, or the same seen from b."""
    if rng.random() < 0.3:
        first, second, stands = second, first, OPPOSITE[stands]
    return fill(_RELATED, rng, a=first, b=second, side=SIDES[stands])


def _all(things: Sequence[Thing], rng: random.Random) -> Phrase:
    counts: dict[tuple[str, Tint | None], int] = {}
    for thing in things:
        counts[thing.name, thing.tint] = counts.get((thing.name, thing.tint), 0) + 1
    phrases = [
        an_object(name, rng, tint) if count == 1 else several(count, name, tint)
        for (name, tint), count in counts.items()
    ]
    return listed(phrases)


def _one(thing: Thing, rng: random.Random) -> Phrase:
    return an_object(thing.name, rng, thing.tint)


def _size(thing: Thing) -> str | None:
    if thing.size < SMALL:
        return "small"
    return "large" if thing.size >= LARGE else None


def _tinted(tint: Tint | None) -> Phrase:
    if tint is None:
        return Phrase("", "")
    return Phrase(f"{COLORS[tint].en} ", f"{COLORS[tint].zh}的")
