import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from deepgen.mini.reader.crops import (
    JUNK_KINDS,
    CropSample,
    foreign_drawings,
    group_sample,
    junk_sample,
    piece_sample,
    thing_sample,
    word_sample,
)
from deepgen.mini.reader.objects import NONE, SHIPPED, WORD, load_classifier, save_classifier
from deepgen.mini.reader.scenes import load_scene_reader, save_templates
from deepgen.mini.reader.templates import lengths, letters
from deepgen.mini.reader.training import jitter, train_classifier
from deepgen.mini.world.scene import BACKGROUNDS

FOREIGN = foreign_drawings("train")[:20]
SHOWN: dict[str, Callable[[random.Random], CropSample]] = {
    "thing": thing_sample,
    "word": word_sample,
    "group": group_sample,
    "piece": partial(piece_sample, foreign=FOREIGN),
    **{kind: partial(junk_sample, kind, foreign=FOREIGN) for kind in JUNK_KINDS},
}


@pytest.mark.parametrize("kind", SHOWN)
def test_what_is_shown_lies_in_its_box_and_is_called_what_it_is(kind: str) -> None:
    for index in range(20):
        shown: CropSample = SHOWN[kind](random.Random(index))
        assert 0 <= shown.box.top < shown.box.bottom <= shown.image.height
        assert 0 <= shown.box.left < shown.box.right <= shown.image.width
        pixels = np.asarray(shown.image)[shown.box.inside]
        assert pixels.std(axis=(0, 1)).max() > 0
        assert (shown.label == NONE) == (kind not in ("thing", "word"))
        assert (shown.label == WORD) == (kind == "word")


def test_foreign_drawings_of_the_test_are_not_trained_on() -> None:
    train, test = foreign_drawings("train"), foreign_drawings("test")
    assert len(test) >= 300
    assert not set(train) & set(test)


def test_jitter_changes_crops_and_keeps_them_in_range() -> None:
    crops = torch.linspace(-1, 1, 8 * 3 * 40 * 40).reshape(8, 3, 40, 40)
    jittered = jitter(crops, random.Random(0))
    assert jittered.abs().max() <= 1
    assert 0.01 < (jittered - crops).abs().mean() < 0.5


def test_a_trained_reader_survives_saving(tmp_path: Path) -> None:
    classifier = train_classifier(steps=3)
    save_classifier(classifier, tmp_path)
    again = load_classifier(tmp_path)
    crops = torch.rand(2, 3, 40, 40) * 2 - 1
    with torch.inference_mode():
        for mine, its in zip(classifier(crops), again(crops), strict=True):
            assert torch.equal(mine, its)


def test_the_shipped_templates_are_what_the_recipe_makes(tmp_path: Path) -> None:
    save_classifier(load_classifier(), tmp_path)
    save_templates(letters(), lengths(), tmp_path)
    made, shipped = (load_scene_reader(BACKGROUNDS, each) for each in (tmp_path, SHIPPED))
    assert made.lengths == shipped.lengths
    assert made.letters.alphabet == shipped.letters.alphabet
    # Rasterisers may differ by a level from one version to the next.
    assert np.abs(made.letters.images - shipped.letters.images).max() <= 0.02
