from __future__ import annotations

import random
from dataclasses import replace

import pytest
from PIL import Image

from deepgen.mini.reader.objects import NONE, WORD
from deepgen.mini.reader.scenes import DetectedItem, DetectedScene
from deepgen.mini.world.drawing import draw
from deepgen.mini.world.request import SceneRequest
from deepgen.mini.world.sampling import sample
from deepgen.mini.world.scene import Scene, Thing, Word
from deepgen.rl.rewards.base import RewardItem
from deepgen.rl.rewards.registry import create_reward
from deepgen.rl.rewards.scene import SceneScorer, fulfilled
from deepgen.scoring.answers import Answer, AnswerStatus

KINDS = ("one", "two", "relation", "count", "tint", "two tints", "size", "style")


def detected(item: Thing | Word) -> DetectedItem:
    if isinstance(item, Word):
        values = {"label": WORD, "tint": NONE, "style": "colour", "text": "?"}
    else:
        values = {"label": item.name, "tint": item.tint or NONE, "style": item.style}
    return DetectedItem(probability=1.0, center=item.center, size=item.size, **values)


def as_seen(scene: Scene) -> DetectedScene:
    """What a reader without faults sees of a scene."""
    return DetectedScene(background=scene.background, items=tuple(map(detected, scene.items)))


def asked(kind: str, index: int = 3) -> SceneRequest:
    wanted = sample(index, kind=kind, canvas=(128, 128))
    return SceneRequest(kind=kind, target=wanted.target)


@pytest.mark.parametrize("kind", KINDS)
def test_a_scene_as_asked_is_worth_1_and_an_empty_one_nearly_nothing(kind: str) -> None:
    request = asked(kind)
    assert fulfilled(request, as_seen(request.target)) == 1.0
    empty = DetectedScene(background=NONE, items=())
    assert fulfilled(request, empty) == 0.0


def test_a_request_survives_json() -> None:
    for kind in (*KINDS, "word", "word below"):
        request = asked(kind)
        assert SceneRequest.from_json(request.to_json()) == request
    with pytest.raises(ValueError, match=r"a scene cannot be read \(KeyError: 'height'\)"):
        SceneRequest.from_json({"kind": "one"})


@pytest.mark.parametrize(
    ("kind", "change", "parts", "missed"),
    [
        ("tint", {"tint": NONE}, 3, 1),
        ("style", {"style": "colour"}, 3, 1),
        ("one", {"label": "none"}, 2, 1),
    ],
)
def test_each_part_that_is_missed_counts_equally(
    kind: str, change: dict[str, str], parts: int, missed: int
) -> None:
    request = asked(kind)
    seen = as_seen(request.target)
    wrong = replace(seen, items=tuple(replace(item, **change) for item in seen.items))
    # What has another name is also one thing too many.
    extra = int("label" in change)
    expected = (parts - missed) / (parts + extra)
    assert fulfilled(request, wrong) == pytest.approx(expected)


def test_a_wrong_background_a_swapped_relation_and_a_thing_too_many_are_noticed() -> None:
    request = asked("relation")
    seen = as_seen(request.target)
    assert fulfilled(request, replace(seen, background="none")) == pytest.approx(3 / 4)
    first, second = seen.items
    swapped = (replace(first, center=second.center), replace(second, center=first.center))
    assert fulfilled(request, replace(seen, items=swapped)) == pytest.approx(3 / 4)
    assert fulfilled(request, replace(seen, items=(*seen.items, first))) == pytest.approx(4 / 5)


def test_where_the_prompt_does_not_say_it_places_are_free() -> None:
    request = replace(asked("relation"), kind="two")
    seen = as_seen(request.target)
    first, second = seen.items
    swapped = (replace(first, center=second.center), replace(second, center=first.center))
    assert fulfilled(request, replace(seen, items=swapped)) == 1.0


def test_missing_ones_of_a_count_are_counted_one_by_one() -> None:
    request = next(
        each
        for each in (asked("count", index) for index in range(99))
        if len(each.target.items) == 4
    )
    seen = as_seen(request.target)
    assert fulfilled(request, replace(seen, items=seen.items[:2])) == pytest.approx(3 / 5)


def test_two_things_of_one_name_are_paired_by_their_tints() -> None:
    red = Thing(name="apple", center=(0.5, 0.27), size=0.4, tint="red")
    blue = replace(red, center=(0.5, 0.73), tint="blue")
    target = Scene(height=128, width=128, background="white", items=(red, blue))
    request = SceneRequest(kind="two tints", target=target)
    mirrored = (replace(red, center=blue.center), replace(blue, center=red.center))
    assert fulfilled(request, as_seen(replace(target, items=mirrored))) == 1.0


class FixedWords:
    name = "fixed"

    def read(self, image: Image.Image) -> Answer[list[str]]:
        assert max(image.size) >= 512
        return Answer(status=AnswerStatus.SCORED, value=["JAMES"])


def test_words_are_read_by_ocr_and_count_by_their_letters() -> None:
    word = Word(text="JAM", center=(0.5, 0.5), size=0.3)
    target = Scene(height=128, width=128, background="white", items=(word,))
    request = SceneRequest(kind="word", target=target)
    assert fulfilled(request, as_seen(target), ["JAM"]) == 1.0
    assert fulfilled(request, as_seen(target), ["JAR"]) == pytest.approx((1 + 2 / 3) / 2)
    item = RewardItem(image=draw(target), prompt="", details={"scene": request.to_json()})
    scene = create_reward("scene").scorer
    assert isinstance(scene, SceneScorer)
    (without,) = scene.score([item])
    assert (without.value, without.reason) == (
        None,
        "the scene has words, and there is no OCR to read them",
    )
    (read,) = SceneScorer(scene.reader, FixedWords()).score([item])
    assert read.value == pytest.approx((1 + 1 / 3) / 2)


def test_without_a_scene_there_is_a_reason_and_no_number() -> None:
    image = Image.new("RGB", (64, 64))
    items = [
        RewardItem(image=image, prompt="a"),
        RewardItem(image=image, prompt="a", details={"scene": {"kind": "one"}}),
    ]
    answers = create_reward("scene").scorer.score(items)
    assert [each.value for each in answers] == [None, None]
    assert "no scene" in answers[0].reason
    assert "cannot be read" in answers[1].reason


def test_the_reader_for_rewards_reads_true_renderings_and_no_noise() -> None:
    scorer = create_reward("scene").scorer
    wanted = [sample(index, kind=kind, canvas=(128, 128)) for kind in KINDS for index in range(6)]
    items = [
        RewardItem(
            image=draw(each.target),
            prompt=each.prompt.en,
            details={"scene": SceneRequest(kind=each.kind, target=each.target).to_json()},
        )
        for each in wanted
    ]
    values = [each.value or 0.0 for each in scorer.score(items)]
    assert sum(value == 1.0 for value in values) >= 0.95 * len(values)
    noise = [
        replace(item, image=Image.frombytes("RGB", (128, 128), random.Random(0).randbytes(49152)))
        for item in items[:4]
    ]
    assert max(each.value or 0.0 for each in scorer.score(noise)) <= 0.34
