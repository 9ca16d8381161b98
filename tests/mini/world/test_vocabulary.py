"""Notes about prompts that the embedded model was not taught."""

from __future__ import annotations

import pytest

from deepgen.mini.world.vocabulary import known_objects, vocabulary_note


@pytest.mark.parametrize(
    "text",
    ["a fox on a green background", "Two Foxes", "三只小狗", "grapes and a cactus", "a puppy"],
)
def test_a_prompt_about_something_known_is_not_noted(text: str) -> None:
    assert vocabulary_note(text, is_edit=False, side=64) is None


@pytest.mark.parametrize("text", ["make the background blue", "remove the word", "把背景换成绿色"])
def test_an_instruction_may_be_about_the_background_or_a_word(text: str) -> None:
    assert vocabulary_note(text, is_edit=True, side=64) is None


@pytest.mark.parametrize("text", ["an astronaut", "a catalogue", "a horse on the moon", "一匹马"])
def test_a_prompt_about_nothing_known_names_what_is(text: str) -> None:
    note = vocabulary_note(text, is_edit=False, side=64)
    assert note is not None
    assert "24 kinds of objects such as dog, cat, pig" in note
    assert "--model" in note


def test_a_larger_model_knows_the_whole_world() -> None:
    assert len(known_objects(96)) > len(known_objects(64))
    assert vocabulary_note("an animal", is_edit=False, side=96) is None
