"""The embedded model, as the package carries it."""

from functools import cache

import torch

from deepgen.mini.reader.objects import find_objects, load_classifier, read_background
from deepgen.mini.world.drawing import draw
from deepgen.mini.world.scene import BACKGROUNDS
from deepgen.mini.world.version0 import held_out_background_edit, held_out_drawing, held_out_pairs
from deepgen.pipeline.pipeline import DeepGenPipeline


@cache
def pipeline() -> DeepGenPipeline:
    pipe = DeepGenPipeline.from_pretrained("mini")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_it_draws_most_of_what_it_never_saw() -> None:
    reader = load_classifier()
    pairs = held_out_pairs()[::4]
    images = pipeline()([held_out_drawing(pair).text for pair in pairs], seed=0).images
    right = [
        [found.label for found in find_objects(image, reader)] == [name]
        and read_background(image, BACKGROUNDS)[0] == background
        for image, (name, background) in zip(images, pairs, strict=True)
    ]
    assert sum(right) >= 0.7 * len(pairs)


def test_it_changes_backgrounds_and_keeps_objects() -> None:
    reader = load_classifier()
    pairs = held_out_pairs()[1::4]
    edits = [held_out_background_edit(pair) for pair in pairs]
    sources = [[draw(edit.source)] for edit in edits if edit.source is not None]
    images = pipeline()([edit.text for edit in edits], image=sources, seed=0).images
    right = [
        [found.label for found in find_objects(image, reader)] == [name]
        and read_background(image, BACKGROUNDS)[0] == background
        for image, (name, background) in zip(images, pairs, strict=True)
    ]
    assert sum(right) >= 0.7 * len(pairs)


def test_it_reads_chinese() -> None:
    (image,) = pipeline()("黄色背景上的一只青蛙", seed=1).images
    assert [found.label for found in find_objects(image, load_classifier())] == ["frog"]
    assert read_background(image, BACKGROUNDS)[0] == "yellow"


def test_the_transformer_is_what_draws() -> None:
    own = DeepGenPipeline.from_pretrained("mini")
    own.set_progress_bar_config(disable=True)
    before = own("a cat on a blue background", seed=3, output_type="pt").images
    with torch.no_grad():
        for value in own.model.dit.parameters():
            value.zero_()
    after = own("a cat on a blue background", seed=3, output_type="pt").images
    assert (before - after).abs().mean() > 0.05
