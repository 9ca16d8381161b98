import pytest
from PIL import Image

from deepgen.mini.reader.objects import NONE
from deepgen.mini.reader.scenes import load_scene_reader
from deepgen.mini.world.drawing import draw
from deepgen.mini.world.scene import BACKGROUNDS, Item, Scene, Thing, Word

READER = load_scene_reader(BACKGROUNDS)


@pytest.mark.parametrize("canvas", [(64, 64), (128, 128), (96, 192)])
def test_a_scene_is_read_back_whole(canvas: tuple[int, int]) -> None:
    items: tuple[Item, ...] = (
        Thing(name="house", center=(0.38, 0.5), size=0.54),
        Word(text="NEXT", center=(0.84, 0.5), size=0.16),
    )
    scene = Scene(height=canvas[0], width=canvas[1], background="purple", items=items)
    seen = READER.read(draw(scene))
    assert seen.background == "purple"
    (house,), (word,) = seen.things, seen.words
    assert (house.label, house.style, word.text) == ("house", "colour", "NEXT")
    assert house.size == pytest.approx(0.54, abs=0.06)
    for item, own in zip(items, (house, word), strict=True):
        assert own.center == pytest.approx(item.center, abs=0.06)


def test_a_border_like_no_background_is_none() -> None:
    assert READER.read(Image.new("RGB", (64, 64), (20, 60, 20))).background == NONE
    pale = tuple(level - 12 for level in BACKGROUNDS["yellow"])
    assert READER.read(Image.new("RGB", (64, 64), pale)).background == "yellow"
