from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image

from deepgen.mini.reader.objects import (
    NONE,
    WORD,
    ObjectClassifier,
    find_objects,
    foreground,
    load_classifier,
    mask_iou,
    read_background,
    to_crop,
)
from deepgen.mini.reader.training import measure_classifier
from deepgen.mini.world.drawing import draw, mask
from deepgen.mini.world.scene import BACKGROUNDS, Scene, Thing, Word


@cache
def reader() -> ObjectClassifier:
    return load_classifier()


def scene(*names: str, background: str = "blue", side: int = 64) -> Scene:
    places = [0.5] if len(names) == 1 else [0.26, 0.74]
    size = 0.78 if len(names) == 1 else 0.46
    things = tuple(
        Thing(name=name, center=(0.5, x), size=size) for name, x in zip(names, places, strict=True)
    )
    return Scene(height=side, width=side, background=background, items=things)  # type: ignore[arg-type]


def test_the_shipped_reader_reads_true_images_and_refuses_junk() -> None:
    figures = measure_classifier(reader(), count=120)
    assert figures["true renderings"] >= 0.98
    assert figures["junk"] >= 0.95


def test_two_objects_are_found_from_left_to_right() -> None:
    found = find_objects(draw(scene("cat", "apple")), reader())
    assert [each.label for each in found] == ["cat", "apple"]
    assert found[0].box.right <= found[1].box.left


@pytest.mark.parametrize("side", [64, 128])
def test_four_things_close_together_are_told_apart(side: int) -> None:
    places = [(y, x) for y in (0.27, 0.73) for x in (0.27, 0.73)]
    names = ("bread", "umbrella", "cheese", "cow")  # their drawings fill their squares
    things = tuple(
        Thing(name=name, center=place, size=0.43) for name, place in zip(names, places, strict=True)
    )
    crowded = Scene(height=side, width=side, background="pink", items=things)
    found = find_objects(draw(crowded), reader())
    assert sorted(each.label for each in found) == sorted(names)
    for each in found:
        assert mask_iou(each.mask, mask(crowded, names.index(each.label))) >= 0.85


def test_a_drawing_of_many_loose_strokes_is_one_thing() -> None:
    for name in ("drum", "bell", "magnet", "rose"):
        found = find_objects(draw(scene(name, side=128)), reader())
        assert [each.label for each in found] == [name]


def test_a_word_is_found_whole() -> None:
    word = Word(text="JUNGLE", center=(0.5, 0.5), size=0.16)
    written = Scene(height=64, width=64, background="gray", items=(word,))
    found = find_objects(draw(written), reader())
    assert [each.label for each in found] == [WORD]
    assert mask_iou(found[0].mask, mask(written, 0)) >= 0.75


@pytest.mark.parametrize("tint", ["red", "yellow", "purple", "brown"])
def test_tints_and_styles_are_read(tint: str) -> None:
    apple = Thing(name="apple", center=(0.5, 0.5), size=0.6, tint=tint)  # type: ignore[arg-type]
    lines = Thing(name="apple", center=(0.5, 0.5), size=0.6, style="line")
    for thing in (apple, lines):
        imaged = Scene(height=128, width=128, background="green", items=(thing,))
        (found,) = find_objects(draw(imaged), reader())
        assert found.style == thing.style
        assert thing.tint is None or found.tint == tint


def test_an_empty_image_has_no_objects_and_noise_none_known() -> None:
    assert find_objects(Image.new("RGB", (64, 64), BACKGROUNDS["pink"]), reader()) == []
    noise = torch.randint(0, 255, (64, 64, 3), dtype=torch.uint8).numpy()
    assert {each.label for each in find_objects(Image.fromarray(noise), reader())} <= {NONE}


@pytest.mark.parametrize("background", list(BACKGROUNDS))
def test_every_background_is_read(background: str) -> None:
    name, distance = read_background(draw(scene("fox", background=background)), BACKGROUNDS)
    assert name == background
    assert distance == 0


@pytest.mark.parametrize("name", ["cat", "pig", "house", "star"])
def test_the_foreground_is_the_drawing_even_where_it_has_the_backgrounds_colour(name: str) -> None:
    for background in ("white", "yellow", "orange", "pink"):
        imaged = scene(name, background=background)
        assert mask_iou(foreground(draw(imaged)), mask(imaged, 0)) >= 0.85


def test_the_background_flows_around_corners_but_not_through_walls() -> None:
    pixels = np.full((16, 16, 3), 255, np.uint8)
    spiral = np.zeros((16, 16), bool)
    spiral[2, 2:14] = spiral[2:14, 13] = spiral[13, 4:14] = spiral[5:14, 4] = True
    spiral[5, 4:11] = True
    pixels[spiral] = 0
    assert (foreground(Image.fromarray(pixels)) == spiral).all()
    pixels[2:14, 2] = pixels[13, 2:5] = 0
    assert foreground(Image.fromarray(pixels))[2:14, 2:14].all()


def test_a_crop_shows_nothing_of_the_neighbours() -> None:
    pixels = np.full((32, 32, 3), 200, np.uint8)
    pixels[10:14, 4:24] = 0
    alone = to_crop(pixels, (10, 4, 14, 24), np.full(3, 200.0))
    pixels[16:20] = 90
    assert torch.equal(to_crop(pixels, (10, 4, 14, 24), np.full(3, 200.0)), alone)


def test_overlap_of_masks() -> None:
    left, none = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    left[:, :2] = True
    assert mask_iou(left, left) == 1.0
    assert mask_iou(left, ~left) == 0.0
    assert mask_iou(none, none) == 1.0
