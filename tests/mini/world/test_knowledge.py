from __future__ import annotations

from collections import Counter

import pytest

from deepgen.mini.world.facts import FACTS
from deepgen.mini.world.knowledge import CATEGORIES, CLEAR_CATEGORIES, OBJECTS, TINTABLE, members
from deepgen.mini.world.wording import described


def test_the_world_has_enough_objects_and_enough_that_take_a_tint() -> None:
    assert 60 <= len(OBJECTS) <= 96
    assert len(TINTABLE) >= 20


def test_no_two_objects_share_a_drawing() -> None:
    assert len({facts.code for facts in OBJECTS.values()}) == len(OBJECTS)


@pytest.mark.parametrize("language", [0, 1])
def test_every_name_and_synonym_means_one_object(language: int) -> None:
    names: Counter[str] = Counter()
    for facts in OBJECTS.values():
        noun = facts
        own = {(noun.singular, noun.chinese)[language], *(also[language] for also in noun.synonyms)}
        if language == 0:
            own.add(noun.plural)
        names.update(own)
    assert [name for name, count in names.items() if count > 1] == []


def test_every_object_is_drawn_with_the_name_that_unicode_gives_it() -> None:
    emoji = pytest.importorskip("emoji")
    # Where the annotation says it in other words than we do.
    said_otherwise = {
        "turtle": "龟",
        "crab": "蟹",
        "cheese": "芝士",
        "egg": "蛋",
        "castle": "城堡",
        "shoe": "跑鞋",
        "shirt": "T恤",
        "moon": "弯月",
        "heart": "红心",
        "fire": "火焰",
        "umbrella": "伞",
        "bucket": "桶",
        "cow": "奶牛",
        "chicken": "鸡",
        "monkey": "猴",
        "rabbit": "兔子",
        "whale": "鲸",
        "tree": "松树",
        "bear": "熊",
    }
    emoji.config.load_language("zh")
    for name, facts in OBJECTS.items():
        letter = chr(int(facts.code, 16))
        known = emoji.EMOJI_DATA.get(letter) or emoji.EMOJI_DATA[f"{letter}\ufe0f"]
        assert said_otherwise.get(name, facts.chinese) in known["zh"], (name, known["zh"])


def test_a_fact_holds_for_exactly_one_object_and_does_not_name_it() -> None:
    for language in (0, 1):
        told = Counter(fact[language] for facts in FACTS.values() for fact in facts)
        assert set(told.values()) == {1}
    for name, facts in FACTS.items():
        noun = OBJECTS[name]
        for fact in facts:
            assert noun.singular not in fact.en
            assert noun.chinese not in fact.zh


def test_a_description_picks_exactly_one_object() -> None:
    told = Counter(
        phrase
        for name, facts in FACTS.items()
        for fact in facts
        for phrase in described(name, fact)
    )
    assert set(told.values()) == {1}
    assert len(FACTS) >= 60


def test_riddles_have_enough_of_every_clear_kind() -> None:
    assert all(len(members(kind)) >= 4 for kind in CLEAR_CATEGORIES)
    assert {facts.category for facts in OBJECTS.values()} <= set(CATEGORIES)
