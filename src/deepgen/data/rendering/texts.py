"""Composing the texts that are rendered: a function of a random generator."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from deepgen.data.rendering.vocabulary import (
    CLOSINGS,
    DETAILS,
    POEM_LINES,
    SENTENCES,
    SIGNS,
    SYLLABLES,
    TITLES,
    WORDS,
    Language,
    TextKind,
    common_characters,
)

CATEGORY = re.compile(r"\{(.+?)\}")

ARTICLE = re.compile(r"\b([Aa]) (?=[aeiouAEIOU])")
"""An ``a`` before a vowel."""

CJK = re.compile(r"[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]")
"""Han characters, and the punctuation and wide forms used with them."""

WORD_CATEGORIES = ("thing", "animal", "quality", "place", "name", "food", "day", "month", "price")
CHINESE_WORD_CATEGORIES = ("事物", "动物", "性质", "动作", "城市", "食物", "活动", "星期", "价格")


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """One text of an image; line breaks within it are meant."""

    text: str
    words: tuple[tuple[str, str], ...] = ()
    """Category and word, of words that occur once and so may be replaced."""

    @property
    def is_chinese(self) -> bool:
        """Whether it has characters that a Latin font lacks."""
        return CJK.search(self.text) is not None

    def upper(self) -> Text:
        """In capitals."""
        words = tuple((category, word.upper()) for category, word in self.words)
        return Text(text=self.text.upper(), words=words)

    def replaced(self, rng: np.random.Generator) -> tuple[Text, str, str] | None:
        """The text with one word changed, the word and the new one; None where none can be."""
        if not self.words:
            return None
        number = int(rng.integers(len(self.words)))
        category, old = self.words[number]
        is_upper = old == old.upper()
        present = {word.casefold() for _, word in self.words}
        # Of the same kind of first letter, so that an article before it stays right.
        options = [
            each
            for each in WORDS[category]
            if each.casefold() not in present and _has_vowel(each) == _has_vowel(old)
        ]
        if not options:
            return None
        new = str(options[int(rng.integers(len(options)))])
        if is_upper:
            new = new.upper()
        words = tuple(
            (category, new) if place == number else each for place, each in enumerate(self.words)
        )
        return replace(self, text=self.text.replace(old, new), words=words), old, new


def _has_vowel(word: str) -> bool:
    return word[:1].lower() in "aeiou"


def compose(
    kind: TextKind, language: Language, rng: np.random.Generator, own: Sequence[str] = ()
) -> tuple[Text, ...]:
    """The texts of an image, from top to bottom.

    Args:
        own: Texts of the user, which take the place of sentences.
    """
    if kind == "word":
        return (_word(language, rng),)
    if kind == "sentence":
        if own:
            return (Text(text=str(own[int(rng.integers(len(own)))])),)
        return (_filled(SENTENCES[language], rng),)
    if kind == "sign":
        lines = [_filled(SIGNS[language], rng)]
        if rng.random() < 0.3:
            lines.append(_filled(DETAILS[language], rng))
        return tuple(lines)
    title = _filled(TITLES[language], rng)
    if kind == "poem":
        return (title, _poem(language, rng))
    texts = [title, _filled(DETAILS[language], rng)]
    if rng.random() < 0.7:
        texts.append(_filled(CLOSINGS[language], rng))
    return tuple(texts)


def _word(language: Language, rng: np.random.Generator) -> Text:
    draw = rng.random()
    if language == "mixed":
        parts = [_one("zh", rng, draw), _one("en", rng, draw)]
        text = " ".join(each.text for each in parts)
        return Text(text=text, words=tuple(pair for each in parts for pair in each.words))
    found = _one(language, rng, draw)
    if language == "en":
        style = rng.random()
        if style < 0.35:
            return found.upper()
        if style < 0.7:
            text = found.text[:1].upper() + found.text[1:]
            return Text(text=text, words=tuple((category, text) for category, _ in found.words))
    return found


def _one(language: Language, rng: np.random.Generator, draw: float) -> Text:
    """A word of the vocabulary, or letters or characters that are in no list of words."""
    if draw < 0.3:
        if language == "zh":
            characters = _common()
            count = int(rng.integers(2, 6))
            picked = rng.integers(len(characters), size=count)
            return Text(text="".join(characters[int(each)] for each in picked))
        picked = rng.integers(len(SYLLABLES), size=int(rng.integers(2, 5)))
        return Text(text="".join(SYLLABLES[int(each)] for each in picked))
    categories = CHINESE_WORD_CATEGORIES if language == "zh" else WORD_CATEGORIES
    return _filled([f"{{{each}}}" for each in categories], rng)


def _poem(language: Language, rng: np.random.Generator) -> Text:
    lines = POEM_LINES[language]
    count = 4 if rng.random() < 0.7 else 6
    if language == "en":
        start = 2 * int(rng.integers(len(lines) // 2))
        chosen = [lines[(start + each) % len(lines)] for each in range(count)]
    else:
        chosen = [lines[each % len(lines)] for each in range(count)]
    return _filled(("\n".join(chosen),), rng)


def _filled(templates: Sequence[str], rng: np.random.Generator) -> Text:
    template = templates[int(rng.integers(len(templates)))]
    words: list[tuple[str, str]] = []

    def draw(found: re.Match[str]) -> str:
        options = WORDS[found[1]]
        word = options[int(rng.integers(len(options)))]
        words.append((found[1], word))
        return word

    text = ARTICLE.sub(r"\1n ", CATEGORY.sub(draw, template))
    once = tuple((category, word) for category, word in words if text.count(word) == 1)
    return Text(text=text, words=once)


@cache
def _common() -> str:
    return common_characters()
