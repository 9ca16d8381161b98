from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from deepgen.mini.world.held_out import (
    ASPECTS,
    WORDS,
    Aspect,
    compositions,
    held_out,
    listing,
)
from deepgen.mini.world.knowledge import OBJECTS, TINTABLE, natural_tint
from deepgen.mini.world.lettering import ALPHABET
from deepgen.mini.world.scene import BACKGROUNDS, Background, Scene, Thing, Word
from deepgen.mini.world.version0 import OBJECT_NAMES, held_out_pairs
from deepgen.mini.world.version0 import sample as version0_sample

LISTING = Path(__file__).parents[3] / "docs" / "mini-held-out.txt"


def test_the_list_in_the_documentation_is_the_rule() -> None:
    assert LISTING.read_text(encoding="utf-8") == listing()


@pytest.mark.parametrize("aspect", ASPECTS)
def test_nothing_is_listed_twice(aspect: Aspect) -> None:
    assert len(set(held_out(aspect))) == len(held_out(aspect))


def test_every_object_keeps_most_backgrounds_tints_and_counts() -> None:
    missing = Counter((parts[0], parts[1]) for aspect in ASPECTS[:2] for parts in held_out(aspect))
    assert all(missing["background", name] in (1, 2) for name in OBJECTS)
    assert all(missing["tint", name] == 2 for name in TINTABLE)
    assert Counter(parts[1] for parts in held_out("count")) == dict.fromkeys(OBJECTS, 1)


def test_no_object_is_denied_the_colour_it_has_anyway() -> None:
    assert all(natural_tint(name) != tint for _, name, tint in held_out("tint"))


def test_relations_are_between_two_different_objects_and_told_from_one_side() -> None:
    for _, first, stands, second in held_out("relation"):
        assert first != second
        assert stands in ("left of", "above")


def test_words_can_be_written() -> None:
    written = [*WORDS, *(word for _, word in held_out("word"))]
    assert all(set(word) <= set(ALPHABET) and 2 <= len(word) <= 6 for word in written)
    assert not set(ALPHABET) & set("O0I1S5Z2B8")
    assert len(held_out("word")) >= 100


def test_compositions_tell_what_a_scene_puts_together() -> None:
    dog = Thing(name="dog", center=(0.5, 0.75), size=0.4)
    apple = Thing(name="apple", center=(0.5, 0.25), size=0.4, tint="blue")
    word = Word(text="CAT", center=(0.9, 0.5), size=0.1)
    scene = Scene(height=128, width=128, background="pink", items=(dog, apple, word))
    assert compositions(scene) == {
        ("background", "dog", "pink"),
        ("background", "apple", "pink"),
        ("tint", "apple", "blue"),
        ("count", "dog", "1"),
        ("count", "apple", "1"),
        ("relation", "apple", "left of", "dog"),
        ("word", "CAT"),
    }


def test_version_0_holds_out_forty_pairs_evenly() -> None:
    pairs = held_out_pairs()
    assert len(set(pairs)) == 40
    assert set(Counter(color for _, color in pairs).values()) == {5}
    assert set(Counter(name for name, _ in pairs)) == set(OBJECT_NAMES)
    # At least five backgrounds are left to train on.
    assert max(Counter(name for name, _ in pairs).values()) <= len(BACKGROUNDS) - 5
    assert {("background", *pair) for pair in pairs} <= set(held_out("background"))


def test_version_0_trains_on_none_of_its_held_out_pairs_and_on_all_others() -> None:
    seen: set[tuple[str, Background]] = set()
    for index in range(6000):
        found = version0_sample(index)
        for scene in (found.target, found.source):
            if scene is not None:
                seen |= {(thing.name, scene.background) for thing in scene.things}
    assert seen.isdisjoint(held_out_pairs())
    assert len(seen) == len(OBJECT_NAMES) * len(BACKGROUNDS) - 40
