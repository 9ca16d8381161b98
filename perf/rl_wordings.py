"""Prompts over the embedded model's world, phrased as in its training and otherwise.

The embedded model is right in 99.7 % of its own wordings and seldom beyond its world, so neither
leaves anything to learn between. Phrased otherwise, the same scenes come out right in a third to
four fifths of the samples: ``python perf/rl_wordings.py`` measures every wording, by both readers.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Sequence

from measure import environment, write

from deepgen.mini.world import version0
from deepgen.mini.world.knowledge import OBJECTS
from deepgen.mini.world.request import SceneRequest
from deepgen.mini.world.scene import Scene
from deepgen.mini.world.wording import COLORS, with_article
from deepgen.rl.prompts import Prompt

KNOWN: dict[str, tuple[str, ...]] = {
    "one object": version0.WORDINGS["one", "en"] + version0.WORDINGS["one", "zh"],
    "two objects": version0.WORDINGS["two", "en"] + version0.WORDINGS["two", "zh"],
}
"""Wordings of its training, by row."""

REPHRASED: dict[str, tuple[str, ...]] = {
    "one object, rephrased": (
        "can you show {a} against something {ON}?",
        "有{m}，{ON}的背景",
        "please draw {a} for me, with {on} background",
        "on {on} background there is {a}",
    ),
    "two objects, rephrased": (
        "left {A}, right {B}, {ON}",
        "{a} with {b} on its right, on {on} background",
        "there is {a} and there is {b}, on {on} background",
        "please draw {a} and {b}, and the background should be {ON}",
        "{ON} background: {a}, {b}",
    ),
}
"""Wordings that it never saw; {a}, {b}: article and name, and so on, as in ``version0``."""


def swapped(text: str, rng: random.Random) -> str:
    """Two neighbours are swapped, twice."""
    letters = list(text)
    for _ in range(2):
        place = rng.randrange(len(letters) - 1)
        letters[place], letters[place + 1] = letters[place + 1], letters[place]
    return "".join(letters)


def shortened(text: str, rng: random.Random) -> str:
    """Three letters are missing."""
    letters = list(text)
    for _ in range(3):
        del letters[rng.randrange(len(letters))]
    return "".join(letters)


MISSPELT: tuple[Callable[[str, random.Random], str], ...] = (swapped, shortened)

ROWS = (*REPHRASED, "misspelt", *KNOWN)
"""Kinds of prompts; those of ``KNOWN`` are never rewarded."""


def filled(wording: str, scene: Scene) -> str:
    """A wording about a scene."""
    names = [thing.name for thing in scene.things]
    first, second = names[0], names[-1]
    color = COLORS[scene.background]
    chinese = not wording.isascii()

    def with_kind(name: str) -> str:
        noun = OBJECTS[name]
        if chinese:
            return f"一{noun.measure}{noun.chinese}"
        return name if name == "grapes" else with_article(noun.singular)

    return wording.format(
        a=with_kind(first),
        b=with_kind(second),
        m=with_kind(first),
        n=with_kind(second),
        A=OBJECTS[first].chinese if chinese else first,
        B=OBJECTS[second].chinese if chinese else second,
        on=color.zh if chinese else with_article(color.en),
        ON=color.zh if chinese else color.en,
    )


def scene_of(split: str, index: int, things: int) -> Scene:
    """A scene of the version-0 world with so many objects, without held-out pairs."""
    for attempt in range(10_000):
        drawn = version0.sample(index, f"{split} {attempt}")
        if drawn.kind == "draw" and len(drawn.target.things) == things:
            return drawn.target
    raise AssertionError


def row_prompt(row: str, split: str, index: int) -> Prompt:
    """Prompt ``index`` of a row; another split has other scenes."""
    rng = random.Random(f"{row}, {split}, {index}")
    things = 2 if row.startswith("two") else 1
    scene = scene_of(f"{row}, {split}", index, things)
    if row == "misspelt":
        text = filled(rng.choice(KNOWN["one object"][:3]), scene)
        text = rng.choice(MISSPELT)(text, rng)
    else:
        wordings = REPHRASED.get(row) or KNOWN[row]
        text = filled(wordings[index % len(wordings)], scene)
    return _prompt(f"{row}, {split}/{index}", text, scene)


def prompts_of(rows: Sequence[str], split: str, count: int) -> list[Prompt]:
    """``count`` different prompts of each row."""
    found: dict[str, Prompt] = {}
    for row in rows:
        wanted, index = len(found) + count, 0
        while len(found) < wanted:
            made = row_prompt(row, split, index)
            found.setdefault(made.prompt, made)
            index += 1
    return list(found.values())


def _prompt(name: str, text: str, scene: Scene) -> Prompt:
    kind = "one" if len(scene.things) == 1 else "two"
    return Prompt(
        id=name,
        prompt=text,
        category="general",
        details={"scene": SceneRequest(kind=kind, target=scene).to_json()},
    )


def main() -> None:
    """Measure every wording, and write the record."""
    from rl_mini import scores

    from deepgen.checkpoint.folder import load_folder
    from deepgen.checkpoint.hub import resolve

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=40, help="samples of each wording")
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    model = load_folder(resolve("mini"))
    found = {}
    for row, wordings in {**REPHRASED, **KNOWN}.items():
        things = 2 if row.startswith("two") else 1
        for wording in wordings:
            scenes = [scene_of(wording, index, things) for index in range(arguments.count)]
            prompts = [_prompt(str(i), filled(wording, s), s) for i, s in enumerate(scenes)]
            values = scores(model, prompts, arguments.steps)
            found[wording] = {
                "row": row,
                **{name: round(float(each.mean()), 3) for name, each in values.items()},
                "all correct": round(float((values["reward"] == 1).mean()), 3),
            }
            print(wording, found[wording], flush=True)
    write("rl_wordings", {**vars(arguments), "wordings": found, **environment()})


if __name__ == "__main__":
    main()
