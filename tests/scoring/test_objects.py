import numpy as np
import pytest
import torch
from PIL import Image

from deepgen.mini.drawing import draw, mask
from deepgen.mini.scene import BACKGROUNDS, Scene, Thing
from deepgen.mini.version0 import OBJECT_NAMES
from deepgen.recipes.mini_reader import SHIPPED, load_reader, measure_reader
from deepgen.scoring.objects import NONE, find_objects, foreground, mask_iou, read_background


def scene(*names: str, background: str = "blue") -> Scene:
    places = [0.5] if len(names) == 1 else [0.26, 0.74]
    size = 0.78 if len(names) == 1 else 0.46
    things = tuple(
        Thing(name=name, center=(0.5, x), size=size) for name, x in zip(names, places, strict=True)
    )
    return Scene(height=64, width=64, background=background, items=things)  # type: ignore[arg-type]


def test_the_shipped_reader_reads_true_pictures_and_refuses_junk() -> None:
    figures = measure_reader(load_reader(SHIPPED), OBJECT_NAMES, count=120)
    assert figures["true renderings"] >= 0.98
    assert figures["junk"] >= 0.95


def test_two_objects_are_found_from_left_to_right() -> None:
    found = find_objects(draw(scene("cat", "apple")), load_reader(SHIPPED))
    assert [each.label for each in found] == ["cat", "apple"]
    assert found[0].box[3] <= found[1].box[1]


def test_an_empty_picture_has_no_objects_and_noise_none_known() -> None:
    reader = load_reader(SHIPPED)
    assert find_objects(Image.new("RGB", (64, 64), BACKGROUNDS["pink"]), reader) == []
    noise = torch.randint(0, 255, (64, 64, 3), dtype=torch.uint8).numpy()
    assert {each.label for each in find_objects(Image.fromarray(noise), reader)} <= {NONE}


@pytest.mark.parametrize("background", list(BACKGROUNDS))
def test_every_background_is_read(background: str) -> None:
    name, distance = read_background(draw(scene("fox", background=background)), BACKGROUNDS)
    assert name == background
    assert distance == 0


@pytest.mark.parametrize("name", ["cat", "pig", "house", "star"])
def test_the_foreground_is_the_drawing_even_where_it_has_the_backgrounds_colour(name: str) -> None:
    for background in ("white", "yellow", "orange", "pink"):
        pictured = scene(name, background=background)
        assert mask_iou(foreground(draw(pictured)), mask(pictured, 0)) >= 0.85


def test_overlap_of_masks() -> None:
    left, none = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    left[:, :2] = True
    assert mask_iou(left, left) == 1.0
    assert mask_iou(left, ~left) == 0.0
    assert mask_iou(none, none) == 1.0
