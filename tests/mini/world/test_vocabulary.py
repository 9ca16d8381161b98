"""Notes about prompts that the embedded model was not taught."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer

from deepgen.checkpoint.hub import resolve
from deepgen.mini.world.vocabulary import known_objects, unseen_words_note, vocabulary_note

TOKENIZER = Tokenizer.from_file(str(resolve("mini") / "tokenizer" / "tokenizer.json"))


def count_tokens(text: str) -> int:
    return len(TOKENIZER.encode(text))


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


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a cat on the beach at sunset", "words 'beach', 'sunset' in training"),
        ("Please, draw foxes and a cactus", "word 'Please' in training"),
        ("two dogs", "word 'two' in training"),
    ],
)
def test_words_that_no_sentence_of_the_training_had_are_named(text: str, named: str) -> None:
    note = unseen_words_note(text, count_tokens)
    assert note is not None
    assert named in note


@pytest.mark.parametrize("text", ["A fox and cats above the word HELLO", "三只小狗", "the dogs"])
def test_words_of_the_training_words_to_be_drawn_and_chinese_are_not_noted(text: str) -> None:
    assert unseen_words_note(text, count_tokens) is None
