from collections import Counter

import pytest

from deepgen.mini.training.samples import KINDS, WEIGHTS, labels, training_sample
from deepgen.mini.world.held_out import compositions
from deepgen.mini.world.held_out import held_out as held_out_of
from deepgen.mini.world.version0 import OBJECT_NAMES

SOME = 400


def test_a_training_sample_is_a_function_of_its_number() -> None:
    assert [training_sample(number) for number in range(20)] == [
        training_sample(number) for number in range(20)
    ]
    assert training_sample(3) != training_sample(4)
    assert training_sample(3) != training_sample(3, split="autoencoder")


def test_no_training_sample_shows_a_held_out_pair_or_word() -> None:
    held_out = {*held_out_of("background"), *held_out_of("word")}
    for number in range(SOME):
        own = training_sample(number)
        scenes = [own.target] if own.source is None else [own.target, own.source]
        assert all(compositions(scene).isdisjoint(held_out) for scene in scenes), own


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_can_be_asked_for_and_stays_in_its_part_of_the_world(kind: str) -> None:
    for number in range(20):
        own = training_sample(number, kind=kind)
        assert own.kind == kind
        assert (own.source is None) == (kind.split()[0] in ("draw", "word"))
        assert {thing.name for thing in own.target.things} <= set(OBJECT_NAMES)
        assert (own.target.height, own.target.width) == (64, 64)


def test_kinds_come_up_as_often_as_their_weights_say() -> None:
    found = Counter(training_sample(number).kind for number in range(2000))
    for kind, weight in WEIGHTS.items():
        assert found[kind] / 2000 == pytest.approx(weight, abs=0.03)


def test_weights_are_shares() -> None:
    assert sum(WEIGHTS.values()) == pytest.approx(1)


def test_labels_tell_apart_what_sentences_tell_apart() -> None:
    below = training_sample(0, kind="word below").target
    assert labels(below).split("; ")[0] == f"above {below.things[0].name}"
    assert labels(below).split("; ")[1] == f"below {' '.join(below.words[0].text)}"
    pair = training_sample(0, kind="draw two").target
    left, right = sorted(pair.things, key=lambda thing: thing.center[1])
    expected = f"left {left.name}; right {right.name}; background {pair.background}"
    assert labels(pair) == expected
