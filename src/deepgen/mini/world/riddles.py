"""Samples that take reasoning: descriptions, sums, negation, odd one out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from deepgen.mini.world.editing import counts, with_item
from deepgen.mini.world.facts import FACTS
from deepgen.mini.world.knowledge import CATEGORIES, CLEAR_CATEGORIES, OBJECTS, Phrase, members
from deepgen.mini.world.layout import RELATIONS
from deepgen.mini.world.scene import Background
from deepgen.mini.world.scene_sampler import SampleSpec, SceneSampler
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


def describe_one(sampler: SceneSampler) -> SampleSpec:
    """An object by what it does."""
    name, color = sampler.backdrop(FACTS)
    subject = sampler.fill(_DESCRIBED, x=_described(sampler, name))
    return _drawn(sampler, name, color, subject)


def add_up(sampler: SceneSampler) -> SampleSpec:
    """As many as a sum says."""
    name, total = sampler.counted()
    part = sampler.rng.randint(1, total - 1)
    return _calculated(sampler, name, total, _SUM, (total - part, part))


def take_away(sampler: SceneSampler) -> SampleSpec:
    """As many as a difference says."""
    name, total = sampler.counted()
    part = sampler.rng.randint(1, 4)
    return _calculated(sampler, name, total, _DIFFERENCE, (total + part, part))


def neither_nor(sampler: SceneSampler) -> SampleSpec:
    """One of two or three, described by ruling out the others."""
    name, color = sampler.backdrop()
    others = sampler.rng.sample(
        [other for other in OBJECTS if other != name], sampler.rng.randint(1, 2)
    )
    options = [name, *others]
    sampler.rng.shuffle(options)
    subject = sampler.fill(
        _NEGATION,
        options=listed([an_object(option, sampler.rng) for option in options], either=True),
        others=listed([the_object(other, sampler.rng) for other in others], either=True),
    )
    return _drawn(sampler, name, color, subject)


def find_odd(sampler: SceneSampler) -> SampleSpec:
    """The one of four that is of another kind."""
    name, color = sampler.backdrop(_CLEAR_NAMES)
    options = [name, *_others_of_a_kind(sampler, name)]
    sampler.rng.shuffle(options)
    subject = sampler.fill(
        _ODD, options=listed([an_object(option, sampler.rng) for option in options])
    )
    return _drawn(sampler, name, color, subject)


def replace_described(sampler: SceneSampler) -> SampleSpec:
    """One object, given by its kind or by what it does, becomes another that is described."""
    new, color = sampler.backdrop(FACTS)
    old = sampler.rng.choice([name for name in FACTS if name != new])
    other = _of_another_kind(sampler, old, new)
    goes, stays = sampler.pair(old, sampler.rng.choice(RELATIONS), other)
    source = sampler.scene(color, goes, stays)
    prompt = sampler.fill(_REPLACE, a=_referred_to(sampler, old), b=_described(sampler, new))
    target = with_item(source, goes, replace(goes, name=new))
    return SampleSpec(prompt=prompt, target=target, sources=(source,))


def remove_described(sampler: SceneSampler) -> SampleSpec:
    """The object that is described goes."""
    kept, color = sampler.backdrop()
    old = _of_another_kind(sampler, kept, kept, among=tuple(FACTS))
    goes, stays = sampler.pair(old, sampler.rng.choice(RELATIONS), kept)
    source = sampler.scene(color, goes, stays)
    prompt = sampler.fill(_REMOVE, a=_referred_to(sampler, old))
    return SampleSpec(prompt=prompt, target=replace(source, items=(stays,)), sources=(source,))


def more_or_fewer(sampler: SceneSampler) -> SampleSpec:
    """So many more, or so many fewer, than the image shows."""
    name, after = sampler.counted()
    before = sampler.rng.choice([number for number in range(1, 5) if number != after])
    source, target = counts(sampler, name, before, after)
    step = abs(after - before)
    number = Phrase(NUMBERS[step].en, f"{counted(step)}{OBJECTS[name].measure}")
    prompt = sampler.fill(_MORE if after > before else _FEWER, n=number)
    return SampleSpec(prompt=prompt, target=target, sources=(source,))


def keep_kind(sampler: SceneSampler) -> SampleSpec:
    """Everything of another kind goes."""
    name, color = sampler.backdrop(_CLEAR_NAMES)
    kind = OBJECTS[name].category
    alike = sampler.rng.sample([other for other in members(kind) if other != name], 3)
    unlike = sampler.rng.sample([other for other in _CLEAR_NAMES if other not in members(kind)], 2)
    stay = [name, *alike[: sampler.rng.randint(0, 1)]]
    things = sampler.group([*stay, *unlike[: sampler.rng.randint(1, 2)]])
    label = CATEGORIES[kind]
    prompt = sampler.fill(_ONLY, a=Phrase(with_article(label.en), label.zh))
    return SampleSpec(
        prompt=prompt,
        target=sampler.scene(color, *things[: len(stay)]),
        sources=(sampler.scene(color, *things),),
    )


def remove_odd(sampler: SceneSampler) -> SampleSpec:
    """The one of another kind goes."""
    kept, color = sampler.backdrop(_CLEAR_NAMES)
    kind = OBJECTS[kept].category
    alike = sampler.rng.sample([name for name in members(kind) if name != kept], 2)
    odd = sampler.rng.choice([name for name in _CLEAR_NAMES if OBJECTS[name].category != kind])
    things = sampler.group([odd, kept, *alike])
    return SampleSpec(
        prompt=sampler.fill(_ODD_OUT),
        target=sampler.scene(color, *things[1:]),
        sources=(sampler.scene(color, *things),),
    )


def _described(sampler: SceneSampler, name: str) -> Phrase:
    return described(name, sampler.rng.choice(FACTS[name]))


def _referred_to(sampler: SceneSampler, name: str) -> Phrase:
    """An object of an image whose other object is of another kind."""
    label = CATEGORIES[OBJECTS[name].category]
    if OBJECTS[name].category in CLEAR_CATEGORIES and sampler.rng.random() < 0.5:
        return Phrase(f"the {label.en}", label.zh)
    return _described(sampler, name)


def _of_another_kind(
    sampler: SceneSampler, name: str, *but: str, among: tuple[str, ...] = tuple(OBJECTS)
) -> str:
    kind = OBJECTS[name].category
    return sampler.rng.choice(
        [other for other in among if OBJECTS[other].category != kind and other not in but]
    )


def _others_of_a_kind(sampler: SceneSampler, name: str) -> list[str]:
    kind = sampler.rng.choice([kind for kind in CLEAR_CATEGORIES if kind != OBJECTS[name].category])
    return sampler.rng.sample(members(kind), 3)


def _calculated(
    sampler: SceneSampler, name: str, total: int, forms: Forms, parts: tuple[int, int]
) -> SampleSpec:
    noun = OBJECTS[name]
    first, second = parts
    color = sampler.background()
    subject = sampler.fill(
        forms,
        a=NUMBERS[first],
        b=NUMBERS[second],
        first=several(first, name),
        second=Phrase("", f"{counted(second)}{noun.measure}"),
        things=Phrase(noun.plural, noun.chinese),
        m=Phrase("", noun.measure),
        name=Phrase(noun.singular, noun.chinese),
    )
    scene = sampler.scene(color, *sampler.group([name] * total))
    return SampleSpec(prompt=on_background(subject, color, sampler.rng, apart=True), target=scene)


def _drawn(sampler: SceneSampler, name: str, color: Background, subject: Phrase) -> SampleSpec:
    scene = sampler.scene(color, sampler.alone(name))
    return SampleSpec(prompt=on_background(subject, color, sampler.rng, apart=True), target=scene)


DRAWINGS: dict[str, Callable[[SceneSampler], SampleSpec]] = {
    "description": describe_one,
    "sum": add_up,
    "difference": take_away,
    "negation": neither_nor,
    "odd one out": find_odd,
}
EDITS: dict[str, Callable[[SceneSampler], SampleSpec]] = {
    "replace described": replace_described,
    "remove described": remove_described,
    "more or fewer": more_or_fewer,
    "keep one kind": keep_kind,
    "remove odd one": remove_odd,
}
