from __future__ import annotations

import random
import re
from collections import Counter

import pytest

from deepgen.mini.world.facts import FACTS
from deepgen.mini.world.knowledge import OBJECTS, Phrase
from deepgen.mini.world.sampling import KINDS, Sample, sample
from deepgen.mini.world.scene import Scene, Thing
from deepgen.mini.world.wording import (
    COLORS,
    NUMBERS,
    an_object,
    background,
    counted,
    describe,
    listed,
    several,
    with_article,
)

SAMPLES = {kind: [sample(index, kind=kind) for index in range(80)] for kind in KINDS}


def names_of(name: str) -> list[Phrase]:
    noun = OBJECTS[name]
    return [Phrase(noun.singular, noun.chinese), *noun.synonyms]


def mentions(prompt: Phrase, name: str) -> bool:
    noun = OBJECTS[name]
    return any(
        (called.en in prompt.en or noun.plural in prompt.en) and called.zh in prompt.zh
        for called in names_of(name)
    )


def of_kinds(*kinds: str) -> list[Sample]:
    return [found for kind in kinds for found in SAMPLES[kind]]


def test_a_drawing_that_is_not_a_riddle_names_every_object() -> None:
    for found in of_kinds("one", "two", "relation", "count", "tint", "two tints", "size", "style"):
        for thing in found.target.things:
            assert mentions(found.prompt, thing.name), (found.prompt, thing.name)


def test_a_description_names_no_object() -> None:
    for found in of_kinds("description"):
        name = found.target.things[0].name
        assert any(
            fact.en in found.prompt.en and fact.zh in found.prompt.zh for fact in FACTS[name]
        )
        noun = OBJECTS[name]
        assert not re.search(rf"\b{noun.singular}\b", found.prompt.en)


def test_a_drawing_says_its_background_unless_it_is_white() -> None:
    for kind in KINDS[:15]:
        for found in SAMPLES[kind]:
            color = found.target.background
            if color != "white":
                assert re.search(rf"\b{color}\b", found.prompt.en), found.prompt
                assert f"{COLORS[color].zh}背景" in found.prompt.zh or (
                    f"背景是{COLORS[color].zh}" in found.prompt.zh
                ), found.prompt


def test_tints_are_said_before_their_objects() -> None:
    for found in of_kinds("tint", "two tints"):
        for thing in found.target.things:
            assert thing.tint is not None
            color = COLORS[thing.tint]
            assert any(
                f"{color.en} {called.en}" in found.prompt.en
                and f"{color.zh}的{called.zh}" in found.prompt.zh
                for called in names_of(thing.name)
            ), found.prompt


def test_counts_are_said_with_the_right_measure_word() -> None:
    for found in of_kinds("count"):
        things = found.target.things
        noun = OBJECTS[things[0].name]
        assert f"{NUMBERS[len(things)].en} {noun.plural}" in found.prompt.en
        number = {2: "两", 3: "三", 4: "四"}[len(things)]
        assert f"{number}{noun.measure}{noun.chinese}" in found.prompt.zh


def test_relations_are_true_from_whichever_side_they_are_told() -> None:
    phrases = {
        "to the left of": lambda a, b: a.center[1] < b.center[1],
        "to the right of": lambda a, b: a.center[1] > b.center[1],
        " above ": lambda a, b: a.center[0] < b.center[0],
        " below ": lambda a, b: a.center[0] > b.center[0],
    }
    for found in of_kinds("relation", "add", "together"):
        words = found.prompt.en
        (said,) = (phrase for phrase in phrases if phrase in words)
        before, after = words.split(said)

        def named_in(part: str, found: Sample = found) -> Thing:
            # The longest name wins: a pineapple is no apple.
            return max(
                (thing for thing in found.target.things if _longest(thing.name, part)),
                key=lambda thing: _longest(thing.name, part),
            )

        assert phrases[said](named_in(before), named_in(after)), found.prompt


def test_sums_and_differences_come_out_at_what_is_drawn() -> None:
    values = {phrase.en: value for value, phrase in enumerate(NUMBERS)}
    for found in of_kinds("sum", "difference"):
        first, second = (
            values[word] for word in re.findall(r"\w+", found.prompt.en) if word in values
        )
        sign = 1 if found.kind == "sum" else -1
        assert first + sign * second == len(found.target.things), found.prompt


def test_what_is_ruled_out_is_not_what_is_drawn() -> None:
    for found in of_kinds("negation"):
        options, others = found.prompt.en.split(" not ")
        name = found.target.things[0].name
        assert _longest(name, options)
        noun = OBJECTS[name]
        assert not re.search(rf"the {noun.singular}\b", others), found.prompt


def test_the_odd_one_out_is_the_only_one_of_its_kind() -> None:
    for found in of_kinds("odd one out"):
        named = [
            name
            for name in OBJECTS
            for called in names_of(name)
            if re.search(rf"\ban? {called.en}\b", found.prompt.en)
        ]
        kinds = Counter(OBJECTS[name].category for name in set(named))
        assert sorted(kinds.values()) == [1, 3], found.prompt
        assert kinds[OBJECTS[found.target.things[0].name].category] == 1


def test_words_are_quoted_in_both_languages() -> None:
    for found in of_kinds("word", "word below", "add word", "change word"):
        (word,) = found.target.words
        assert f'"{word.text}"' in found.prompt.en
        assert f"“{word.text}”" in found.prompt.zh


@pytest.mark.parametrize("kind", KINDS)
def test_sentences_are_clean_in_both_languages(kind: str) -> None:
    for found in SAMPLES[kind]:
        english, chinese = found.prompt
        assert english.isascii()
        assert not re.search(r"  |[{}]|\ba [aeiou]|\ban [^aeiou]| ,|^ | $", english), english
        assert re.search(r"[\u4e00-\u9fff]", chinese)
        # Latin letters only where a word is to be written.
        assert not re.search(r"[a-z {}]", chinese), chinese
        assert not re.search("(?<!第)二[^加减等；，]|的的|一一", chinese), chinese


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_paraphrases(kind: str) -> None:
    assert len({found.prompt.en for found in SAMPLES[kind]}) >= 3
    assert len({found.prompt.zh for found in SAMPLES[kind]}) >= 2


def test_phrases_are_grammatical() -> None:
    rng = random.Random(0)
    assert with_article("apple") == "an apple"
    assert with_article("red apple") == "a red apple"
    assert an_object("carrot", rng, size="small") == ("a small carrot", "一根小胡萝卜")
    assert an_object("apple", rng, tint="orange") == ("an orange apple", "一个橙色的苹果")
    assert several(2, "mouse") == ("two mice", "两只老鼠")
    assert several(1, "scissors") == ("one pair of scissors", "一把剪刀")
    assert background("orange") == ("an orange background", "橙色背景")
    assert counted(2) == "两"
    assert listed([Phrase("a", "甲"), Phrase("b", "乙"), Phrase("c", "丙")]) == (
        "a, b and c",
        "甲、乙和丙",
    )


def test_an_empty_scene_can_be_described_too() -> None:
    scene = Scene(height=64, width=64, background="blue", items=())
    assert "blue" in describe(scene, random.Random(0)).en


def _longest(name: str, text: str) -> int:
    return max(
        (len(called.en) for called in names_of(name) if re.search(rf"\b{called.en}\b", text)),
        default=0,
    )
