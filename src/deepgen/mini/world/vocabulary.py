"""Whether a text mentions anything that the mini was taught, for a note to the user."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from deepgen.mini.world.knowledge import CATEGORIES, OBJECTS, Kind
from deepgen.mini.world.version0 import OBJECT_NAMES, SIDE
from deepgen.mini.world.wording import COLORS

EDITED = ("background", "word", "text", "letter", "sign", "背景", "文字", "字", "单词")
"""What an instruction may change besides objects."""

SHOWN = 8
"""Objects, or words, that a note names."""

WORD = re.compile(r"\b[A-Za-z]{3,}\b")
"""English words that may carry a meaning; most shorter ones do not."""


def known_objects(side: int) -> dict[str, Kind]:
    """Objects that the embedded model draws; the first version, of 64 pixels, knows fewer.

    Args:
        side: Of the model's images, in pixels.
    """
    return {name: OBJECTS[name] for name in OBJECT_NAMES} if side == SIDE else dict(OBJECTS)


def vocabulary_note(text: str, *, is_edit: bool, side: int) -> str | None:
    """What to tell about a prompt or instruction that names nothing the mini knows.

    Args:
        text: English or Chinese.
        is_edit: It changes an image, and may be about its background or its words alone.
        side: As for :func:`known_objects`.
    """
    objects = known_objects(side)
    words = [each for kind in objects.values() for each in _names(kind)]
    if side != SIDE:
        words += [each for phrase in CATEGORIES.values() for each in phrase]
    if is_edit:
        words += [*EDITED, *(each for phrase in COLORS.values() for each in phrase)]
    if _mentions(text, words):
        return None
    shown = ", ".join(list(objects)[:SHOWN])
    return (
        f"the embedded model was taught none of this: it draws {len(objects)} kinds of objects "
        f"such as {shown} on plain backgrounds; for anything else give the released model as "
        "--model"
    )


def unseen_words_note(text: str, count_tokens: Callable[[str], int]) -> str | None:
    """What to tell about English words that the mini never met in its training.

    Its tokenizer learned a token for every word it met often enough; other words fall apart.

    Args:
        text: A prompt or instruction; words in capitals are to be drawn, and need no meaning.
        count_tokens: Number of tokens of a text.
    """
    words = dict.fromkeys(each for each in WORD.findall(text) if not each.isupper())
    unseen = [word for word in words if min(map(count_tokens, _forms(word.lower()))) > 1]
    if not unseen:
        return None
    return (
        f"the embedded model never saw the word{'s' * (len(unseen) > 1)} "
        f"{', '.join(map(repr, unseen[:SHOWN]))} in training, and may ignore what "
        f"{'they mean' if len(unseen) > 1 else 'it means'}"
    )


def _forms(word: str) -> list[str]:
    """A word and its singular, within a text and at its beginning."""
    singulars = [word.removesuffix(end) for end in ("s", "es") if word.endswith(end)]
    return [f"{space}{each}" for each in (word, *singulars) for space in (" ", "")]


def _names(kind: Kind) -> list[str]:
    also = [each for phrase in kind.synonyms for each in phrase]
    return [kind.singular, kind.plural, kind.chinese, *also]


def _mentions(text: str, words: Iterable[str]) -> bool:
    """Whether any of the words is in a text: English as whole words, Chinese anywhere."""
    lower = text.lower()
    return any(
        re.search(rf"\b{re.escape(each)}(?:s|es|er)?\b", lower) if each.isascii() else each in lower
        for each in words
    )
