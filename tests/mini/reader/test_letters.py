import numpy as np
import pytest
from PIL import Image, ImageFilter

from deepgen.mini.reader.letters import UNREADABLE, read_word
from deepgen.mini.reader.scenes import load_scene_reader
from deepgen.mini.world.drawing import draw
from deepgen.mini.world.held_out import code
from deepgen.mini.world.lettering import ALPHABET, aspect
from deepgen.mini.world.scene import BACKGROUNDS, Background, Scene, Word

LETTERS = load_scene_reader(BACKGROUNDS).letters


def written(text: str, height: int, background: Background = "white") -> Image.Image:
    size = height / 128
    word = Word(text=text, center=(0.5, 0.5), size=min(size, 0.95 / aspect(text)))
    return draw(Scene(height=128, width=128, background=background, items=(word,)))


def read(image: Image.Image) -> str:
    pixels = np.asarray(image)
    return read_word(pixels, pixels[0, 0].astype(float), LETTERS)


def test_every_letter_is_read_at_every_size() -> None:
    for height in (8, 11, 17, 30):
        assert "".join(read(written(letter, height)) for letter in ALPHABET) == ALPHABET


@pytest.mark.parametrize("background", list(BACKGROUNDS))
def test_words_are_read_on_every_background_sharp_and_soft(background: Background) -> None:
    for number in range(12):
        image = written(code(number), 12, background)
        assert read(image) == code(number)
        assert read(image.filter(ImageFilter.GaussianBlur(0.6))) == code(number)


def test_a_small_word_has_as_many_letters_as_were_written() -> None:
    word = Word(text="JUNGLE", center=(0.45, 0.5), size=9 / 64)
    scene = Scene(height=64, width=64, background="purple", items=(word,))
    assert read(draw(scene)) == "JUNGLE"


def test_no_letter_is_made_of_a_block_and_nothing_of_nothing() -> None:
    pixels = np.full((40, 60, 3), 255, np.uint8)
    assert read_word(pixels, np.full(3, 255.0), LETTERS) == ""
    pixels[10:28, 10:22] = 0
    pixels[11:27:2, 11:21:2] = 255
    assert set(read_word(pixels, np.full(3, 255.0), LETTERS)) == {UNREADABLE}
