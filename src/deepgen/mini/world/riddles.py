"""Samples that take reasoning: descriptions, sums, negation, odd one out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from deepgen.mini.world.dice import Dice, Draft
from deepgen.mini.world.editing import counts, with_item
from deepgen.mini.world.facts import FACTS
from deepgen.mini.world.knowledge import CATEGORIES, CLEAR_CATEGORIES, OBJECTS, Phrase, members
from deepgen.mini.world.layout import RELATIONS
from deepgen.mini.world.scene import Background
from deepgen.mini.world.wording import (
    NUMBERS,
    Forms,
    an_object,
    counted,
    described,
    listed,
    on_background,
    several,
    the_object,
    with_article,
)

_CLEAR_NAMES = tuple(name for kind in CLEAR_CATEGORIES for name in members(kind))

_DESCRIBED: Forms = (
    ("{x}", "draw {x}", "a picture of {x}", "show {x}"),
    ("{x}", "画出{x}", "请画{x}", "一幅画：{x}"),
)
_SUM: Forms = (
    ("{things}, as many as {a} plus {b}", "{first} and {b} more", "draw {a} plus {b} {things}"),
    ("{name}，数量是{a}加{b}", "{a}加{b}等于几，就画几{m}{name}", "先有{first}，再加{second}"),
)
_DIFFERENCE: Forms = (
    ("{things}, as many as {a} minus {b}", "{first}, but {b} fewer", "draw {a} minus {b} {things}"),
    (
        "{name}，数量是{a}减{b}",
        "{a}减{b}等于几，就画几{m}{name}",
        "本来有{first}，拿走{second}，画剩下的",
    ),
)
_NEGATION: Forms = (
    ("{options}, but not {others}", "draw {options}, only not {others}"),
    ("{options}，但不要{others}", "画{options}，但不能是{others}"),
)
_ODD: Forms = (
    (
        "which one does not belong: {options}? draw it",
        "draw the odd one out of {options}",
        "{options}: draw the one of another kind",
    ),
    ("{options}中，画出不同类的那个", "画出{options}里与众不同的一个"),
)
_REPLACE: Forms = (
    ("replace {a} with {b}", "turn {a} into {b}", "change {a} to {b}"),
    ("把{a}换成{b}", "将{a}替换为{b}", "把{a}变成{b}"),
)
_REMOVE: Forms = (
    ("remove {a}", "take {a} away", "erase {a}"),
    ("去掉{a}", "把{a}拿走", "擦掉{a}"),
)
_MORE: Forms = (
    ("make it {n} more", "add {n} more of them", "there should be {n} more"),
    ("再加{n}", "增加{n}", "多画{n}"),
)
_FEWER: Forms = (
    ("make it {n} fewer", "take {n} of them away", "there should be {n} fewer"),
    ("减去{n}", "拿走{n}", "少画{n}"),
)
_ONLY: Forms = (
    (
        "remove everything that is not {a}",
        "keep nothing but what is {a}",
        "take away all that is not {a}",
    ),
    ("去掉所有不是{a}的东西", "除了{a}，其他都去掉"),
)
_ODD_OUT: Forms = (
    (
        "remove the one that does not belong",
        "take away the odd one out",
        "erase what is of another kind than the rest",
    ),
    ("去掉不同类的那个", "拿走与众不同的一个", "擦掉和其他不是一类的那个"),
)


def describe_one(dice: Dice) -> Draft:
    """An object by what it does."""
    name, color = dice.backdrop(FACTS)
    subject = dice.fill(_DESCRIBED, x=_described(dice, name))
    return _drawn(dice, name, color, subject)


def add_up(dice: Dice) -> Draft:
    """As many as a sum says."""
    name, total = dice.counted()
    part = dice.rng.randint(1, total - 1)
    return _calculated(dice, name, total, _SUM, (total - part, part))


def take_away(dice: Dice) -> Draft:
    """As many as a difference says."""
    name, total = dice.counted()
    part = dice.rng.randint(1, 4)
    return _calculated(dice, name, total, _DIFFERENCE, (total + part, part))


def neither_nor(dice: Dice) -> Draft:
    """One of two or three, described by ruling out the others."""
    name, color = dice.backdrop()
    others = dice.rng.sample([other for other in OBJECTS if other != name], dice.rng.randint(1, 2))
    options = [name, *others]
    dice.rng.shuffle(options)
    subject = dice.fill(
        _NEGATION,
        options=listed([an_object(option, dice.rng) for option in options], either=True),
        others=listed([the_object(other, dice.rng) for other in others], either=True),
    )
    return _drawn(dice, name, color, subject)


def find_odd(dice: Dice) -> Draft:
    """The one of four that is of another kind."""
    name, color = dice.backdrop(_CLEAR_NAMES)
    options = [name, *_others_of_a_kind(dice, name)]
    dice.rng.shuffle(options)
    subject = dice.fill(_ODD, options=listed([an_object(option, dice.rng) for option in options]))
    return _drawn(dice, name, color, subject)


def replace_described(dice: Dice) -> Draft:
    """One object, given by its kind or by what it does, becomes another that is described."""
    new, color = dice.backdrop(FACTS)
    old = dice.rng.choice([name for name in FACTS if name != new])
    other = _of_another_kind(dice, old, new)
    goes, stays = dice.pair(old, dice.rng.choice(RELATIONS), other)
    source = dice.scene(color, goes, stays)
    prompt = dice.fill(_REPLACE, a=_referred_to(dice, old), b=_described(dice, new))
    target = with_item(source, goes, replace(goes, name=new))
    return Draft(prompt=prompt, target=target, sources=(source,))


def remove_described(dice: Dice) -> Draft:
    """The object that is described goes."""
    kept, color = dice.backdrop()
    old = _of_another_kind(dice, kept, kept, among=tuple(FACTS))
    goes, stays = dice.pair(old, dice.rng.choice(RELATIONS), kept)
    source = dice.scene(color, goes, stays)
    prompt = dice.fill(_REMOVE, a=_referred_to(dice, old))
    return Draft(prompt=prompt, target=replace(source, items=(stays,)), sources=(source,))


def more_or_fewer(dice: Dice) -> Draft:
    """So many more, or so many fewer, than the image shows."""
    name, after = dice.counted()
    before = dice.rng.choice([number for number in range(1, 5) if number != after])
    source, target = counts(dice, name, before, after)
    step = abs(after - before)
    number = Phrase(NUMBERS[step].en, f"{counted(step)}{OBJECTS[name].measure}")
    prompt = dice.fill(_MORE if after > before else _FEWER, n=number)
    return Draft(prompt=prompt, target=target, sources=(source,))


def keep_kind(dice: Dice) -> Draft:
    """Everything of another kind goes."""
    name, color = dice.backdrop(_CLEAR_NAMES)
    kind = OBJECTS[name].category
    alike = dice.rng.sample([other for other in members(kind) if other != name], 3)
    unlike = dice.rng.sample([other for other in _CLEAR_NAMES if other not in members(kind)], 2)
    stay = [name, *alike[: dice.rng.randint(0, 1)]]
    things = dice.group([*stay, *unlike[: dice.rng.randint(1, 2)]])
    label = CATEGORIES[kind]
    prompt = dice.fill(_ONLY, a=Phrase(with_article(label.en), label.zh))
    return Draft(
        prompt=prompt,
        target=dice.scene(color, *things[: len(stay)]),
        sources=(dice.scene(color, *things),),
    )


def remove_odd(dice: Dice) -> Draft:
    """The one of another kind goes."""
    kept, color = dice.backdrop(_CLEAR_NAMES)
    kind = OBJECTS[kept].category
    alike = dice.rng.sample([name for name in members(kind) if name != kept], 2)
    odd = dice.rng.choice([name for name in _CLEAR_NAMES if OBJECTS[name].category != kind])
    things = dice.group([odd, kept, *alike])
    return Draft(
        prompt=dice.fill(_ODD_OUT),
        target=dice.scene(color, *things[1:]),
        sources=(dice.scene(color, *things),),
    )


def _described(dice: Dice, name: str) -> Phrase:
    return described(name, dice.rng.choice(FACTS[name]))


def _referred_to(dice: Dice, name: str) -> Phrase:
    """An object of an image whose other object is of another kind."""
    label = CATEGORIES[OBJECTS[name].category]
    if OBJECTS[name].category in CLEAR_CATEGORIES and dice.rng.random() < 0.5:
        return Phrase(f"the {label.en}", label.zh)
    return _described(dice, name)


def _of_another_kind(
    dice: Dice, name: str, *but: str, among: tuple[str, ...] = tuple(OBJECTS)
) -> str:
    kind = OBJECTS[name].category
    return dice.rng.choice(
        [other for other in among if OBJECTS[other].category != kind and other not in but]
    )


def _others_of_a_kind(dice: Dice, name: str) -> list[str]:
    kind = dice.rng.choice([kind for kind in CLEAR_CATEGORIES if kind != OBJECTS[name].category])
    return dice.rng.sample(members(kind), 3)


def _calculated(dice: Dice, name: str, total: int, forms: Forms, parts: tuple[int, int]) -> Draft:
    noun = OBJECTS[name]
    first, second = parts
    color = dice.background()
    subject = dice.fill(
        forms,
        a=NUMBERS[first],
        b=NUMBERS[second],
        first=several(first, name),
        second=Phrase("", f"{counted(second)}{noun.measure}"),
        things=Phrase(noun.plural, noun.chinese),
        m=Phrase("", noun.measure),
        name=Phrase(noun.singular, noun.chinese),
    )
    scene = dice.scene(color, *dice.group([name] * total))
    return Draft(prompt=on_background(subject, color, dice.rng, apart=True), target=scene)


def _drawn(dice: Dice, name: str, color: Background, subject: Phrase) -> Draft:
    scene = dice.scene(color, dice.alone(name))
    return Draft(prompt=on_background(subject, color, dice.rng, apart=True), target=scene)


DRAWINGS: dict[str, Callable[[Dice], Draft]] = {
    "description": describe_one,
    "sum": add_up,
    "difference": take_away,
    "negation": neither_nor,
    "odd one out": find_odd,
}
EDITS: dict[str, Callable[[Dice], Draft]] = {
    "replace described": replace_described,
    "remove described": remove_described,
    "more or fewer": more_or_fewer,
    "keep one kind": keep_kind,
    "remove odd one": remove_odd,
}
