"""The part of the world that the first embedded model, version 0, was trained on.

24 objects, eight backgrounds, two layouts (one object; two side by side) and two edits (change the
background; replace an object), in English and Chinese, at 64 pixels. A sample is a function of its
split and index alone.

Forty (object, background) pairs are held out: no training sample shows one, neither in its source
nor in its target. The benchmark asks for exactly these.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Literal, get_args

from deepgen.mini.world.knowledge import OBJECTS
from deepgen.mini.world.scene import BACKGROUNDS, Background, Scene, Thing
from deepgen.mini.world.wording import COLORS, with_article

Task = Literal["draw", "background", "replace"]
Language = Literal["en", "zh"]

BenchRow = Literal[
    "one object",
    "two objects",
    "another background",
    "another object alone",
    "another object of two",
]
BENCH_ROWS: tuple[BenchRow, ...] = get_args(BenchRow)
"""Kinds of samples, reported apart because they are not equally hard."""

SIDE = 64

OBJECT_NAMES = tuple(OBJECTS)[:24]
"""Samples depend on their order, as on every wording below."""

# {a}: article and name; {A}: name; {on}: article and colour; {ON}: colour; {m}: with measure word.
WORDINGS: dict[tuple[str, Language], tuple[str, ...]] = {
    ("one", "en"): (
        "{a} on {on} background",
        "a picture of {a} on {on} background",
        "{a}, {ON} background",
        "draw {a} on {on} background",
        "{A} on {ON}",
        "{a} in front of {on} background",
    ),
    ("one", "zh"): ("{ON}背景上的{m}", "画{m}，{ON}背景", "{m}，背景是{ON}", "{ON}背景，{A}"),
    ("two", "en"): (
        "{a} and {b} on {on} background",
        "{a} to the left of {b} on {on} background",
        "{b} to the right of {a} on {on} background",
        "{a} next to {b}, {ON} background",
        "a picture of {a} and {b} on {on} background",
        "{A} and {B} on {ON}",
    ),
    ("two", "zh"): (
        "{ON}背景上的{m}和{n}",
        "{ON}背景，左边是{m}，右边是{n}",
        "画{m}和{n}，{ON}背景",
        "{n}在{m}的右边，背景是{ON}",
    ),
    ("background", "en"): (
        "change the background to {ON}",
        "make the background {ON}",
        "put it on {on} background",
        "turn the background {ON}",
        "give it {on} background",
    ),
    ("background", "zh"): ("把背景换成{ON}", "将背景改为{ON}", "背景变成{ON}"),
    ("replace", "en"): (
        "replace the {A} with {b}",
        "turn the {A} into {b}",
        "change the {A} to {b}",
        "swap the {A} for {b}",
        "make the {A} {b}",
    ),
    ("replace", "zh"): ("把{A}换成{n}", "将{A}替换为{B}", "把{A}变成{n}"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class TextSample:
    """A prompt or instruction in one language, and the image that fulfils it."""

    kind: str
    """A ``Task`` here; ``mini.training.samples`` has finer kinds."""
    text: str
    """The prompt, or the instruction."""
    target: Scene
    source: Scene | None = None
    """The image to edit; None for text-to-image."""

    @property
    def language(self) -> Language:
        """English texts are ASCII, Chinese ones never are."""
        return "en" if self.text.isascii() else "zh"


def held_out_pairs() -> tuple[tuple[str, Background], ...]:
    """The 40 (object, background) pairs that training never shows, each background five times."""
    colors = list(BACKGROUNDS)
    pairs = []
    for index, name in enumerate(OBJECT_NAMES):
        pairs.append((name, colors[3 * index % 8]))
        if index < 16:
            pairs.append((name, colors[(3 * index + 1 + index // 8) % 8]))
    return tuple(pairs)


_HELD_OUT = frozenset(held_out_pairs())


def sample(index: int, split: str = "train") -> TextSample:
    """Training sample number ``index`` of a split; another split's name gives other samples."""
    rng = random.Random(f"version 0, {split}, {index}")
    task: Task = rng.choices(("draw", "background", "replace"), (0.6, 0.2, 0.2))[0]
    while True:
        source = _random_scene(rng)
        target = source if task == "draw" else _edited(source, task, rng)
        if not _shows_held_out(source) and not _shows_held_out(target):
            break
    language: Language = rng.choices(("en", "zh"), (0.7, 0.3))[0]
    if task == "draw":
        return TextSample(kind=task, text=_drawing_text(target, language, rng), target=target)
    text = _instruction(source, target, task, language, rng)
    return TextSample(kind=task, text=text, target=target, source=source)


def held_out_drawing(pair: tuple[str, Background]) -> TextSample:
    """Text-to-image of a held-out pair, in the first English wording."""
    name, background = pair
    scene = _one(name, background, random.Random(f"{name} on {background}"))
    text = _fill(WORDINGS["one", "en"][0], scene, scene)
    return TextSample(kind="draw", text=text, target=scene)


def held_out_background_edit(pair: tuple[str, Background]) -> TextSample:
    """An edit to an object's held-out background, from one that is not held out."""
    name, background = pair
    rng = random.Random(f"{name} onto {background}")
    seen = [color for color in BACKGROUNDS if (name, color) not in _HELD_OUT]
    source = _one(name, rng.choice(seen), rng)
    target = replace(source, background=background)
    text = _fill(WORDINGS["background", "en"][0], source, target)
    return TextSample(kind="background", text=text, target=target, source=source)


def bench_sample(row: BenchRow, index: int) -> TextSample:
    """Benchmark sample ``index`` of a row; its target shows a held-out pair, its source none.

    Both languages and all wordings; of "one object", 400 samples ask for each pair in each wording
    once.
    """
    rng = random.Random(f"version 0, bench, {row}, {index}")
    if row == "one object":
        name, background = held_out_pairs()[index % len(_HELD_OUT)]
        wordings = (*WORDINGS["one", "en"], *WORDINGS["one", "zh"])
        scene = _one(name, background, rng)
        wording = wordings[index // len(_HELD_OUT) % len(wordings)]
        return TextSample(kind="draw", text=_fill(wording, scene, scene), target=scene)
    language: Language = rng.choices(("en", "zh"), (0.7, 0.3))[0]
    while True:
        source = _random_scene(rng)
        if row == "two objects":
            if len(source.things) == 2 and _shows_held_out(source):
                text = _drawing_text(source, language, rng)
                return TextSample(kind="draw", text=text, target=source)
            continue
        task: Task = "background" if row == "another background" else "replace"
        target = _edited(source, task, rng)
        things = {"another object alone": 1, "another object of two": 2}.get(row)
        if (
            things in (None, len(source.things))
            and not _shows_held_out(source)
            and _shows_held_out(target)
        ):
            text = _instruction(source, target, task, language, rng)
            return TextSample(kind=task, text=text, target=target, source=source)


def _one(name: str, background: Background, rng: random.Random) -> Scene:
    thing = Thing(
        name=name,
        center=(0.5 + rng.uniform(-0.03, 0.03), 0.5 + rng.uniform(-0.03, 0.03)),
        size=rng.uniform(0.74, 0.82),
    )
    return Scene(height=SIDE, width=SIDE, background=background, items=(thing,))


def _random_scene(rng: random.Random) -> Scene:
    background = rng.choice(list(BACKGROUNDS))
    if rng.random() < 0.6:
        return _one(rng.choice(OBJECT_NAMES), background, rng)
    # Two different objects, or an instruction could not say which one it means.
    things = tuple(
        Thing(
            name=name,
            center=(0.5 + rng.uniform(-0.02, 0.02), x + rng.uniform(-0.01, 0.01)),
            size=rng.uniform(0.44, 0.48),
        )
        for name, x in zip(rng.sample(OBJECT_NAMES, 2), (0.26, 0.74), strict=True)
    )
    return Scene(height=SIDE, width=SIDE, background=background, items=things)


def _edited(source: Scene, task: Task, rng: random.Random) -> Scene:
    if task == "background":
        others = [color for color in BACKGROUNDS if color != source.background]
        return replace(source, background=rng.choice(others))
    things = list(source.things)
    index = rng.randrange(len(things))
    present = {thing.name for thing in things}
    other = rng.choice([name for name in OBJECT_NAMES if name not in present])
    things[index] = replace(things[index], name=other)
    return replace(source, items=tuple(things))


def _shows_held_out(scene: Scene) -> bool:
    return any((thing.name, scene.background) in _HELD_OUT for thing in scene.things)


def _drawing_text(scene: Scene, language: Language, rng: random.Random) -> str:
    kind = "one" if len(scene.things) == 1 else "two"
    return _fill(rng.choice(WORDINGS[kind, language]), scene, scene)


def _instruction(
    source: Scene, target: Scene, task: Task, language: Language, rng: random.Random
) -> str:
    return _fill(rng.choice(WORDINGS[task, language]), source, target)


def _fill(wording: str, source: Scene, target: Scene) -> str:
    """Fill in the names: one or two objects of a scene, or the old and the new one of an edit."""
    names = [thing.name for thing in source.things]
    changed = [
        (old.name, new.name)
        for old, new in zip(source.things, target.things, strict=True)
        if old.name != new.name
    ]
    first, second = changed[0] if changed else (names[0], names[-1])
    color = COLORS[target.background]
    chinese = not wording.isascii()
    return wording.format(
        a=_with_article(first),
        b=_with_article(second),
        A=OBJECTS[first].chinese if chinese else first,
        B=OBJECTS[second].chinese if chinese else second,
        m=_with_measure(first),
        n=_with_measure(second),
        on=color.zh if chinese else with_article(color.en),
        ON=color.zh if chinese else color.en,
    )


def _with_article(name: str) -> str:
    # At 64 pixels a bunch of grapes is just grapes.
    return name if name == "grapes" else with_article(OBJECTS[name].singular)


def _with_measure(name: str) -> str:
    noun = OBJECTS[name]
    return f"一{noun.measure}{noun.chinese}"
