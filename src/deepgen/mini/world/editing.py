"""Editing samples that say plainly what to change, in one or two images.

An edit changes what its instruction says and nothing else: every other item keeps its place, size
and colours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from deepgen.mini.world.knowledge import OBJECTS, TINTS, Phrase, natural_tint
from deepgen.mini.world.layout import RELATIONS
from deepgen.mini.world.scene import Background, Item, Scene, Thing, Tint
from deepgen.mini.world.scene_sampler import SampleSpec, SceneSampler
from deepgen.mini.world.wording import (
    COLORS,
    NUMBERS,
    SIDES,
    Forms,
    an_object,
    background,
    counted,
    several,
    the_object,
)

_ADD: Forms = (
    ("add {a} {side} {b}", "put {a} {side} {b}", "draw {a} {side} {b}", "place {a} {side} {b}"),
    ("在{b}的{side}加上{a}", "在{b}{side}画{a}", "把{a}放到{b}的{side}"),
)
_REMOVE: Forms = (
    ("remove {a}", "take {a} away", "erase {a}", "delete {a} from the picture"),
    ("去掉{a}", "把{a}拿走", "擦掉{a}", "删除画中的{a}"),
)
_REPLACE: Forms = (
    ("replace {a} with {b}", "turn {a} into {b}", "swap {a} for {b}", "change {a} to {b}"),
    ("把{a}换成{b}", "将{a}替换为{b}", "把{a}变成{b}"),
)
_RECOLOUR: Forms = (
    ("make {a} {color}", "paint {a} {color}", "change the colour of {a} to {color}"),
    ("把{a}变成{color}", "将{a}涂成{color}", "把{a}的颜色改为{color}"),
)
_MOVE: Forms = (
    ("move {a} to {place}", "put {a} in {place}", "shift {a} to {place}"),
    ("把{a}移到{place}", "将{a}放到{place}", "把{a}挪到{place}"),
)
_SWAP: Forms = (
    (
        "move {a} {side} {b}",
        "put {a} {side} {b} instead",
        "swap {a} and {b}",
        "let {a} and {b} change places",
    ),
    ("把{a}移到{b}的{side}", "让{a}到{b}的{side}去", "交换{a}和{b}的位置", "让{a}和{b}换个位置"),
)
_BACKGROUND: Forms = (
    (
        "change the background to {color}",
        "make the background {color}",
        "put it on {on}",
        "turn the background {color}",
        "give it {on}",
    ),
    ("把背景换成{color}", "将背景改为{color}", "背景变成{color}"),
)
_COUNT: Forms = (
    ("make it {n}", "there should be {n}", "change the number to {number}", "show {n} instead"),
    ("变成{n}", "应该有{n}", "把数量改成{number}", "改为{n}"),
)
_TO_LINES: Forms = (
    ("turn it into a line drawing", "keep only the outlines", "make it black line art"),
    ("变成线稿", "只保留轮廓线", "改成黑色线条画"),
)
_TO_COLOUR: Forms = (
    ("colour it in", "fill the line drawing with its colours", "make it a colour picture"),
    ("给它上色", "给线稿填上颜色", "变成彩色的画"),
)
_ADD_WORD: Forms = (
    ('write "{word}" below {a}', 'add the word "{word}" under {a}', 'add the caption "{word}"'),
    ("在{a}下面写上“{word}”", "在{a}下方加上文字“{word}”", "加上文字“{word}”"),
)
_CHANGE_WORD: Forms = (
    ('change the word to "{word}"', 'replace "{old}" with "{word}"', 'make "{old}" read "{word}"'),
    ("把文字改成“{word}”", "把“{old}”换成“{word}”", "将“{old}”改为“{word}”"),
)
_REMOVE_WORD: Forms = (
    ("remove the word", 'erase "{old}"', "delete the text", 'take the word "{old}" away'),
    ("去掉文字", "擦掉“{old}”", "删除文字", "把“{old}”去掉"),
)
_ONTO: Forms = (
    (
        "put {a} from the {one} picture onto the background of the {other} picture",
        "show {a} of the {one} picture on the {other} picture's background",
        "take {a} from the {one} picture and the background from the {other}",
    ),
    (
        "把第{one}张图里的{a}放到第{other}张图的背景上",
        "用第{other}张图的背景，画第{one}张图里的{a}",
        "取第{one}张图的{a}和第{other}张图的背景",
    ),
)
_TOGETHER: Forms = (
    (
        "put {a} from the {one} picture {side} {b} in the {other} picture",
        "add {a} of the {one} picture to the {other} picture, {side} {b}",
    ),
    (
        "把第{one}张图里的{a}放到第{other}张图中{b}的{side}",
        "在第{other}张图{b}的{side}加上第{one}张图的{a}",
    ),
)

_ORDINALS = (Phrase("first", "一"), Phrase("second", "二"))

# Centres (y, x) of the places that a thing can be moved to.
_PLACES: dict[Phrase, tuple[float, float]] = {
    Phrase("the left", "左边"): (0.5, 0.25),
    Phrase("the right", "右边"): (0.5, 0.75),
    Phrase("the top", "上方"): (0.25, 0.5),
    Phrase("the bottom", "下方"): (0.75, 0.5),
    Phrase("the middle", "中间"): (0.5, 0.5),
    Phrase("the top left corner", "左上角"): (0.25, 0.25),
    Phrase("the top right corner", "右上角"): (0.25, 0.75),
    Phrase("the bottom left corner", "左下角"): (0.75, 0.25),
    Phrase("the bottom right corner", "右下角"): (0.75, 0.75),
}


def add(sampler: SceneSampler) -> SampleSpec:
    """A second object beside the first."""
    first, stands, second = sampler.related()
    new, old = sampler.pair(first, stands, second)
    source = sampler.scene(sampler.background(), old)
    prompt = sampler.fill(
        _ADD, a=an_object(first, sampler.rng), b=the_object(second, sampler.rng), side=SIDES[stands]
    )
    target = replace(source, items=(*source.items, new))
    return SampleSpec(prompt=prompt, target=target, sources=(source,))


def remove(sampler: SceneSampler) -> SampleSpec:
    """One of two objects goes."""
    kept, background = sampler.backdrop()
    source, (stays, goes) = _beside(sampler, kept, sampler.name(kept), background)
    prompt = sampler.fill(_REMOVE, a=the_object(goes.name, sampler.rng))
    return SampleSpec(prompt=prompt, target=replace(source, items=(stays,)), sources=(source,))


def exchange(sampler: SceneSampler) -> SampleSpec:
    """Another object in place of one of one or two."""
    new, background = sampler.backdrop()
    old = sampler.name(new)
    if sampler.rng.random() < 0.5:
        source = sampler.scene(background, sampler.alone(old))
        goes = source.things[0]
    else:
        source, (goes, _) = _beside(sampler, old, sampler.name(new, old), background)
    prompt = sampler.fill(_REPLACE, a=the_object(old, sampler.rng), b=an_object(new, sampler.rng))
    target = with_item(source, goes, replace(goes, name=new))
    return SampleSpec(prompt=prompt, target=target, sources=(source,))


def recolour(sampler: SceneSampler) -> SampleSpec:
    """Another colour for one of one or two objects."""
    name, color = sampler.tinted()
    # What is red by itself is not made red.
    own = [] if natural_tint(name) == color else [None]
    before = sampler.rng.choice([*own, *(tint for tint in TINTS if tint != color)])
    if sampler.rng.random() < 0.5:
        thing = sampler.alone(name, tint=before)
        source = sampler.scene(sampler.background(), thing)
    else:
        source, (thing, _) = _beside(
            sampler, name, sampler.name(name), sampler.background(), before
        )
    named = before if sampler.rng.random() < 0.5 else None
    called = the_object(name, sampler.rng, named)
    prompt = sampler.fill(_RECOLOUR, a=called, color=COLORS[color])
    target = with_item(source, thing, replace(thing, tint=color))
    return SampleSpec(prompt=prompt, target=target, sources=(source,))


def move(sampler: SceneSampler) -> SampleSpec:
    """One object to another place, or two change places."""
    return _swap(sampler) if sampler.rng.random() < 0.5 else _shift(sampler)


def change_background(sampler: SceneSampler) -> SampleSpec:
    """Another background behind one or two objects."""
    name, after = sampler.backdrop()
    before = sampler.background(after)
    if sampler.rng.random() < 0.6:
        source = sampler.scene(before, sampler.alone(name))
    else:
        source, _ = _beside(sampler, name, sampler.name(name), before)
    prompt = sampler.fill(_BACKGROUND, color=COLORS[after], on=background(after))
    return SampleSpec(prompt=prompt, target=replace(source, background=after), sources=(source,))


def change_count(sampler: SceneSampler) -> SampleSpec:
    """More or fewer of a kind."""
    name, after = sampler.counted()
    before = sampler.rng.choice([number for number in range(1, 5) if number != after])
    source, target = counts(sampler, name, before, after)
    number = Phrase(NUMBERS[after].en, f"{counted(after)}{OBJECTS[name].measure}")
    prompt = sampler.fill(_COUNT, n=several(after, name), number=number)
    return SampleSpec(prompt=prompt, target=target, sources=(source,))


def change_style(sampler: SceneSampler) -> SampleSpec:
    """From colours to lines, or back."""
    name, background = sampler.backdrop()
    colours = sampler.alone(name)
    lines = replace(colours, style="line")
    to_lines = sampler.rng.random() < 0.5
    before, after = (colours, lines) if to_lines else (lines, colours)
    return SampleSpec(
        prompt=sampler.fill(_TO_LINES if to_lines else _TO_COLOUR),
        target=sampler.scene(background, after),
        sources=(sampler.scene(background, before),),
    )


def add_word(sampler: SceneSampler) -> SampleSpec:
    """A word below an object."""
    source = sampler.scene(sampler.background(), sampler.captioned(sampler.name()))
    word = sampler.caption(sampler.word())
    prompt = sampler.fill(
        _ADD_WORD,
        a=the_object(source.things[0].name, sampler.rng),
        word=Phrase(word.text, word.text),
    )
    target = replace(source, items=(*source.items, word))
    return SampleSpec(prompt=prompt, target=target, sources=(source,))


def change_word(sampler: SceneSampler) -> SampleSpec:
    """Another word in the same place."""
    after = sampler.caption(sampler.word())
    before = after
    while before.text == after.text:
        before = sampler.caption(sampler.any_word())
    source = sampler.scene(sampler.background(), sampler.captioned(sampler.name()), before)
    prompt = sampler.fill(
        _CHANGE_WORD, old=Phrase(before.text, before.text), word=Phrase(after.text, after.text)
    )
    target = with_item(source, before, after)
    return SampleSpec(prompt=prompt, target=target, sources=(source,))


def remove_word(sampler: SceneSampler) -> SampleSpec:
    """The word goes, the object stays."""
    name, background = sampler.backdrop()
    word = sampler.caption(sampler.any_word())
    thing = sampler.captioned(name)
    prompt = sampler.fill(_REMOVE_WORD, old=Phrase(word.text, word.text))
    source = sampler.scene(background, thing, word)
    return SampleSpec(prompt=prompt, target=sampler.scene(background, thing), sources=(source,))


def onto_background(sampler: SceneSampler) -> SampleSpec:
    """The object of one image on the background of another."""
    name, after = sampler.backdrop()
    taken = sampler.scene(sampler.background(after), sampler.alone(name))
    other = sampler.scene(after, sampler.alone(sampler.name(name)))
    target = replace(taken, background=after)
    sources, ordinals = _either_order(sampler, taken, other)
    prompt = sampler.fill(_ONTO, a=the_object(name, sampler.rng), **ordinals)
    return SampleSpec(prompt=prompt, target=target, sources=sources)


def together(sampler: SceneSampler) -> SampleSpec:
    """The object of one image beside the object of another."""
    first, stands, second = sampler.related()
    comes, stays = sampler.pair(first, stands, second)
    taken = sampler.scene(sampler.background(), sampler.alone(first))
    other = sampler.scene(sampler.background(), stays)
    sources, ordinals = _either_order(sampler, taken, other)
    prompt = sampler.fill(
        _TOGETHER,
        a=the_object(first, sampler.rng),
        b=the_object(second, sampler.rng),
        side=SIDES[stands],
        **ordinals,
    )
    target = replace(other, items=(*other.items, comes))
    return SampleSpec(prompt=prompt, target=target, sources=sources)


def with_item(scene: Scene, old: Item, new: Item) -> Scene:
    """The scene with one item changed."""
    return replace(scene, items=tuple(new if item == old else item for item in scene.items))


def counts(sampler: SceneSampler, name: str, before: int, after: int) -> tuple[Scene, Scene]:
    """The same group twice, first with one number of members, then with another."""
    group = sampler.group([name] * max(before, after))
    color = sampler.background()
    return sampler.scene(color, *group[:before]), sampler.scene(color, *group[:after])


def _beside(
    sampler: SceneSampler, first: str, second: str, color: Background, tint: Tint | None = None
) -> tuple[Scene, tuple[Thing, Thing]]:
    """Two objects in any relation, the first maybe tinted; and both by themselves."""
    things = sampler.pair(first, sampler.rng.choice(RELATIONS), second, tints=(tint, None))
    return sampler.scene(color, *things), things


def _either_order(
    sampler: SceneSampler, taken: Scene, other: Scene
) -> tuple[tuple[Scene, Scene], dict[str, Phrase]]:
    """The two images in either order, and what that makes them called."""
    if sampler.rng.random() < 0.5:
        return (taken, other), {"one": _ORDINALS[0], "other": _ORDINALS[1]}
    return (other, taken), {"one": _ORDINALS[1], "other": _ORDINALS[0]}


def _swap(sampler: SceneSampler) -> SampleSpec:
    first, stands, second = sampler.related()
    one, other = sampler.pair(first, stands, second)
    before = replace(one, center=other.center), replace(other, center=one.center)
    background = sampler.background()
    prompt = sampler.fill(
        _SWAP,
        a=the_object(first, sampler.rng),
        b=the_object(second, sampler.rng),
        side=SIDES[stands],
    )
    target = sampler.scene(background, one, other)
    return SampleSpec(prompt=prompt, target=target, sources=(sampler.scene(background, *before),))


def _shift(sampler: SceneSampler) -> SampleSpec:
    name, background = sampler.backdrop()
    before, after = sampler.rng.sample(list(_PLACES), 2)
    thing = replace(sampler.alone(name, 0.34, 0.44), center=_PLACES[before])
    prompt = sampler.fill(_MOVE, a=the_object(name, sampler.rng), place=after)
    return SampleSpec(
        prompt=prompt,
        target=sampler.scene(background, replace(thing, center=_PLACES[after])),
        sources=(sampler.scene(background, thing),),
    )


GENERAL: dict[str, Callable[[SceneSampler], SampleSpec]] = {
    "add": add,
    "remove": remove,
    "replace": exchange,
    "recolour": recolour,
    "move": move,
    "change background": change_background,
    "change count": change_count,
    "change style": change_style,
}
TEXT: dict[str, Callable[[SceneSampler], SampleSpec]] = {
    "add word": add_word,
    "change word": change_word,
    "remove word": remove_word,
}
REFERENCES: dict[str, Callable[[SceneSampler], SampleSpec]] = {
    "onto background": onto_background,
    "together": together,
}
