from collections import Counter

import pytest
import torch

from deepgen.mini.training.autoencoder_pretraining import CROP, CropBatches
from deepgen.mini.training.feed import ByStepAhead
from deepgen.mini.training.samples import (
    REFERENCES,
    SIDE,
    WEIGHTS,
    any_sample,
    labels,
    training_sample,
)
from deepgen.mini.world.held_out import shows_held_out
from deepgen.mini.world.sampling import KINDS

SOME = 200


def test_a_training_sample_is_a_function_of_its_number() -> None:
    assert [any_sample(number) for number in range(20)] == [
        any_sample(number) for number in range(20)
    ]
    assert any_sample(3) != any_sample(4)
    assert any_sample(3) != any_sample(3, split="scale")


def test_no_training_sample_shows_a_held_out_composition() -> None:
    for number in range(SOME):
        own = any_sample(number)
        assert not any(shows_held_out(scene) for scene in (own.target, *own.sources)), own


def test_every_kind_of_the_world_is_trained_with_its_number_of_references() -> None:
    assert sorted(kind for weights in WEIGHTS for kind in weights) == sorted(KINDS)
    for references, weights in enumerate(WEIGHTS):
        for kind in weights:
            own = training_sample(0, references, kind=kind)
            assert (own.kind, len(own.sources)) == (kind, references)
            assert {scene.height for scene in (own.target, *own.sources)} == {SIDE}


def test_kinds_come_up_as_often_as_their_weights_say() -> None:
    assert sum(REFERENCES) == pytest.approx(1)
    found = Counter(len(any_sample(number).sources) for number in range(400))
    for references, weight in enumerate(REFERENCES):
        assert found[references] / 400 == pytest.approx(weight, abs=0.07)
    for references, weights in enumerate(WEIGHTS):
        assert sum(weights.values()) == pytest.approx(1)
        kinds = Counter(training_sample(number, references).kind for number in range(400))
        for kind, weight in weights.items():
            assert kinds[kind] / 400 == pytest.approx(weight, abs=0.07)


def test_labels_tell_apart_what_sentences_tell_apart() -> None:
    below = training_sample(0, 0, kind="word below").target
    background, thing, word = labels(below).split("; ")
    assert background == f"background {below.background}"
    assert thing == below.things[0].name
    assert word == f"word bottom {' '.join(below.words[0].text)}"
    tinted = training_sample(0, 0, kind="tint").target
    assert labels(tinted).endswith(f"; {tinted.things[0].name} {tinted.things[0].tint}")
    pair = training_sample(1, 0, kind="relation").target
    assert sorted(labels(pair, places=False).split("; ")[1:]) == sorted(
        thing.name for thing in pair.things
    )
    assert labels(pair) != labels(pair, places=False)


def test_batches_are_the_same_whoever_renders_them_and_from_whichever_step() -> None:
    function = CropBatches(batch_size=2)
    ahead = ByStepAhead(function, workers=1)
    for step in (3, 4, 2):
        (found,), (expected,) = ahead(step), function(step)
        assert found.shape == (2, 3, CROP, CROP)
        assert torch.equal(found, expected)
        assert found.stride() == expected.stride()
        assert not found.is_shared()
