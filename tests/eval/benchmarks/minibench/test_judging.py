from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from deepgen.eval.benchmarks.minibench.accuracy import measure_row
from deepgen.eval.benchmarks.minibench.judging import MOST_DECIBELS, judge, judge_untouched
from deepgen.eval.benchmarks.minibench.rows import KEPT_DECIBELS, ROWS, Row
from deepgen.mini.reader.objects import WORD
from deepgen.mini.reader.scenes import DetectedItem, DetectedScene, load_scene_reader
from deepgen.mini.world.drawing import draw
from deepgen.mini.world.sampling import KINDS, Sample, sample
from deepgen.mini.world.scene import BACKGROUNDS, Item, Scene, Thing, Word

READER = load_scene_reader(BACKGROUNDS)


def seen_item(item: Item) -> DetectedItem:
    """What a perfect reader sees of an item."""
    is_word = isinstance(item, Word)
    return DetectedItem(
        label=WORD if isinstance(item, Word) else item.name,
        probability=1.0,
        center=item.center,
        size=item.size,
        tint="none" if is_word or item.tint is None else item.tint,  # type: ignore[union-attr]
        style="colour" if is_word else item.style,  # type: ignore[union-attr]
        text=item.text if isinstance(item, Word) else None,
    )


def seen(scene: Scene) -> DetectedScene:
    items = tuple(seen_item(item) for item in scene.items)
    return DetectedScene(background=scene.background, items=items)


def bench(kind: str, index: int = 0) -> Sample:
    return sample(index, "bench", kind=kind, canvas=(128, 128))


def row_of(kind: str) -> Row:
    return next(row for row, kinds in ROWS.items() if kind in kinds)


def changed(scene: DetectedScene, index: int = 0, **values: object) -> DetectedScene:
    items = list(scene.items)
    items[index] = replace(items[index], **values)  # type: ignore[arg-type]
    return replace(scene, items=tuple(items))


@pytest.mark.parametrize("kind", KINDS)
def test_the_truth_is_right_and_the_source_of_an_edit_is_not(kind: str) -> None:
    for index in range(10):
        wanted = bench(kind, index)
        assert judge(row_of(kind), wanted, seen(wanted.target)).outcome == "ok"
        for source in wanted.sources:
            verdict = judge(row_of(kind), wanted, seen(source))
            assert verdict.outcome == "wrong"
            assert verdict.reason


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ROWS["words"]])
def test_another_background_one_too_many_and_nothing_are_wrong(kind: str) -> None:
    wanted = bench(kind)
    truth = seen(wanted.target)
    other = next(color for color in BACKGROUNDS if color != truth.background)
    stranger = replace(truth.items[0], label="none", center=(0.9, 0.9), text=None)
    for wrong in (
        replace(truth, background=other),
        replace(truth, items=(*truth.items, stranger)),
        replace(truth, items=()),
    ):
        assert judge(row_of(kind), wanted, wrong).outcome == "wrong"


def test_every_kind_has_its_row() -> None:
    assert {kind for kinds in ROWS.values() for kind in kinds} == set(KINDS)


def test_colours_that_change_places_are_wrong() -> None:
    wanted = bench("two tints")
    truth = seen(wanted.target)
    first, second = truth.items
    swapped = replace(
        truth,
        items=(replace(first, tint=second.tint), replace(second, tint=first.tint)),
    )
    assert judge("colour attribution", wanted, swapped).outcome == "wrong"


def test_position_is_wrong_the_other_way_round_and_right_anywhere_on_its_side() -> None:
    wanted = bench("relation")
    truth = seen(wanted.target)
    first, second = truth.items
    turned = changed(changed(truth, 0, center=second.center), 1, center=first.center)
    assert judge("position", wanted, turned).outcome == "wrong"
    assert judge("two objects", bench("two"), seen(bench("two").target)).outcome == "ok"
    nearer = tuple(0.5 + (place - 0.5) / 2 for place in first.center)
    assert judge("position", wanted, changed(truth, 0, center=nearer)).outcome == "ok"


def test_style_and_size_count_where_they_are_asked_for() -> None:
    lines, sized = bench("style"), bench("size")
    assert (
        judge("single object", lines, changed(seen(lines.target), style="colour")).outcome
        == "wrong"
    )
    middle = changed(seen(sized.target), size=0.65)
    assert judge("single object", sized, middle).outcome == "wrong"


def test_words_are_right_to_the_letter_whatever_else_the_image_shows() -> None:
    wanted = bench("word below")
    truth = seen(wanted.target)
    text = str(truth.items[1].text)
    assert judge("words", wanted, replace(truth, items=truth.items[1:])).outcome == "ok"
    assert judge("words", wanted, changed(truth, 1, text=text[:-1] + "?")).outcome == "wrong"
    assert judge("words", wanted, replace(truth, items=truth.items[:1])).outcome == "wrong"


def test_an_edit_that_moves_what_was_to_stay_is_wrong() -> None:
    wanted = bench("recolour")
    y, x = wanted.target.items[0].center
    moved = changed(seen(wanted.target), center=(y, x + 0.2))
    assert "not near" in judge("edits: instruction followed", wanted, moved).reason


def test_things_of_one_name_are_told_apart_by_their_places() -> None:
    wanted = bench("add")
    name = wanted.target.things[0].name
    twins = tuple(replace(thing, name=name) for thing in wanted.target.things)
    wanted = replace(wanted, target=replace(wanted.target, items=twins))
    truth = seen(wanted.target)
    turned = replace(truth, items=truth.items[::-1])
    for scene in (truth, turned):
        assert judge("edits: instruction followed", wanted, scene).outcome == "ok"


def test_members_of_a_group_may_stand_anywhere() -> None:
    wanted = bench("change count")
    things = tuple(
        replace(thing, center=(0.2 + 0.2 * index, 0.3))
        for index, thing in enumerate(wanted.target.things)
    )
    elsewhere = seen(replace(wanted.target, items=things))
    assert judge("edits: instruction followed", wanted, elsewhere).outcome == "ok"


def test_untouched_is_measured_in_decibels_where_nothing_was_to_change() -> None:
    source = Image.new("RGB", (32, 32), (100, 100, 100))
    kept = np.zeros((32, 32), bool)
    kept[:16] = True
    assert judge_untouched(source, source, kept).score == MOST_DECIBELS
    pixels = np.asarray(source).copy()
    pixels[16:] = 0
    assert judge_untouched(source, Image.fromarray(pixels), kept).score == MOST_DECIBELS
    # 255 / 10^(25 / 20) levels are 25 dB.
    for levels, outcome in ((14, "ok"), (15, "wrong")):
        pixels[:16] = 100 + levels
        verdict = judge_untouched(source, Image.fromarray(pixels), kept)
        assert verdict.outcome == outcome
        assert verdict.score == pytest.approx(20 * np.log10(255 / levels))
        assert (verdict.score >= KEPT_DECIBELS) == (outcome == "ok")


def test_what_cannot_be_compared_has_failed_and_is_not_wrong() -> None:
    source = Image.new("RGB", (32, 32))
    nothing = np.zeros((32, 32), bool)
    assert judge_untouched(source, source, nothing).outcome == "failed"
    assert judge_untouched(source, Image.new("RGB", (64, 32)), ~nothing).outcome == "failed"
    with pytest.raises(ValueError, match="judge_untouched"):
        wanted = bench("one")
        judge("edits: untouched region kept", wanted, seen(wanted.target))


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("side", [64, 128])
def test_true_renderings_are_read_right_in_every_row(row: Row, side: int) -> None:
    figures = measure_row(row, READER, (side, side), count=12)
    assert figures["right"] == 1.0, figures["wrong"]
    assert figures["failed"] == 0


def test_images_are_read_before_they_are_judged() -> None:
    wanted = bench("two tints")
    pale = replace(
        wanted.target,
        items=tuple(replace(t, tint=None) for t in wanted.target.items if isinstance(t, Thing)),
    )
    assert judge("colour attribution", wanted, READER.read(draw(pale))).outcome == "wrong"
