from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter

import pytest

from deepgen.mini.world.held_out import Aspect, all_held_out, compositions, shows_held_out
from deepgen.mini.world.knowledge import OBJECTS, TINTS
from deepgen.mini.world.layout import box, is_tidy
from deepgen.mini.world.sampling import DRAWING_KINDS, EDIT_KINDS, KINDS, Sample, sample
from deepgen.mini.world.scene import BACKGROUNDS

# What each kind is about, and so what the bench must hold out in it.
ABOUT: dict[str, set[Aspect]] = {
    "one": {"background"},
    "two": {"relation"},
    "relation": {"relation"},
    "count": {"count"},
    "tint": {"tint"},
    "two tints": {"tint"},
    "size": {"background"},
    "style": {"background"},
    "word": {"word"},
    "word below": {"word"},
    "description": {"background"},
    "sum": {"count"},
    "difference": {"count"},
    "negation": {"background"},
    "odd one out": {"background"},
    "add": {"relation"},
    "remove": {"background"},
    "replace": {"background"},
    "recolour": {"tint"},
    "move": {"relation", "background"},
    "change background": {"background"},
    "change count": {"count"},
    "change style": {"background"},
    "add word": {"word"},
    "change word": {"word"},
    "remove word": {"background"},
    "replace described": {"background"},
    "remove described": {"background"},
    "more or fewer": {"count"},
    "keep one kind": {"background"},
    "remove odd one": {"background"},
    "onto background": {"background"},
    "together": {"relation"},
}


def digest(count: int) -> str:
    values = hashlib.sha256()
    for index in range(count):
        for split in ("train", "bench"):
            values.update(repr(sample(index, split)).encode())  # type: ignore[arg-type]
    return values.hexdigest()


def test_a_sample_is_the_same_in_every_process() -> None:
    command = "from tests.mini.world.test_sampling import digest; print(digest(30))"
    seen = {
        subprocess.run(
            [sys.executable, "-c", command],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert seen == {digest(30)}


def test_a_sample_does_not_depend_on_what_was_sampled_before() -> None:
    first = sample(5, kind="move")
    sample(6, kind="move")
    assert sample(5, kind="move") == first


def test_another_index_split_or_kind_is_another_sample() -> None:
    samples = {repr(sample(index, "train", "one")) for index in range(300)}
    assert len(samples) == 300
    assert sample(1, "train", "one").target != sample(1, "bench", "one").target


@pytest.fixture(scope="module")
def training() -> list[Sample]:
    return [sample(index) for index in range(4000)]


def test_samples_of_all_kinds_take_turns(training: list[Sample]) -> None:
    kinds = Counter(found.kind for found in training)
    assert set(kinds) == set(KINDS)
    assert min(kinds.values()) > 80


def test_drawings_have_no_source_and_edits_have_one_or_two() -> None:
    for kind in DRAWING_KINDS:
        assert sample(0, kind=kind).sources == ()
    for kind in EDIT_KINDS:
        found = sample(0, kind=kind)
        assert len(found.sources) == (2 if found.capability == "references" else 1)
        assert all(
            (source.height, source.width) == (found.target.height, found.target.width)
            for source in found.sources
        )


@pytest.mark.parametrize("split", ["train", "bench"])
def test_items_lie_inside_every_canvas_and_never_overlap(split: str) -> None:
    canvases = [(64, 64), (128, 128), (96, 192), (192, 96), (160, 128), (192, 64)]
    for kind in KINDS:
        for index in range(60):
            canvas = canvases[index % len(canvases)]
            found = sample(index, split, kind, canvas)  # type: ignore[arg-type]
            assert (found.target.height, found.target.width) == canvas
            for scene in (found.target, *found.sources):
                assert is_tidy(scene), (kind, index, scene)
                assert len(scene.items) <= 4
                edges = [box(item, scene.height, scene.width) for item in scene.items]
                assert all(edge.bottom - edge.top >= 8 for edge in edges)


def test_training_shows_nothing_that_is_held_out(training: list[Sample]) -> None:
    for index, found in enumerate(training):
        for scene in {found.target, *found.sources}:
            shown = compositions(scene) & all_held_out()
            assert not shown, (index, shown)


@pytest.mark.parametrize("kind", KINDS)
def test_the_bench_asks_for_what_is_held_out(kind: str) -> None:
    for index in range(60):
        shown = compositions(sample(index, "bench", kind).target) & all_held_out()
        assert {composition[0] for composition in shown} & ABOUT[kind], (index, shown)


def test_the_bench_covers_most_of_what_is_held_out() -> None:
    asked: set[tuple[str, ...]] = set()
    for kind in ("one", "relation", "count", "tint", "word"):
        for index in range(400):
            asked |= compositions(sample(index, "bench", kind).target) & all_held_out()
    assert len(asked) > 0.9 * len(all_held_out())


def test_every_held_out_part_is_seen_in_training_in_other_company(training: list[Sample]) -> None:
    names, colors = set(), set()
    for found in training[:4000]:
        colors.add(found.target.background)
        for thing in found.target.things:
            names.add(thing.name)
            colors.add(thing.tint)
    assert names == set(OBJECTS)
    assert colors == {*BACKGROUNDS, *TINTS, None}


def test_a_sample_that_shows_no_held_out_pair_is_not_called_so() -> None:
    assert shows_held_out(sample(0, "bench", "one").target)
    assert not shows_held_out(sample(0, "train", "one").target)
