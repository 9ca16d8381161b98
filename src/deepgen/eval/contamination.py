"""Which prompts of the benchmarks occur in a list of training prompts.

Two prompts are the same if they are equal after Unicode NFKC, case folding, dropping punctuation
and collapsing white space, and near if their sets of five-word windows have a Jaccard similarity
above 0.8. An inverted index of the benchmarks' windows keeps this linear in the training list.
"""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from deepgen.eval.benchmark import Item

WINDOW = 5
"""Words of one window; shorter prompts are one window, so they only match whole."""

NEAR = 0.8
"""Jaccard similarity, above which two prompts are near."""

# CJK ideographs, kana and Hangul: written without spaces, so each stands as a word of its own.
_UNSPACED = ((0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xAC00, 0xD7AF))

Words = tuple[str, ...]
Windows = frozenset[Words]


@dataclass(frozen=True, kw_only=True, slots=True)
class Match:
    """A training prompt that is a benchmark's."""

    benchmark: str
    item: str
    number: int
    """Position of the training prompt in its list, from 0."""
    kind: Literal["exact", "near"]
    similarity: float
    """Jaccard similarity of the windows; 1 for exact ones."""


class PromptIndex:
    """An index of all prompts of some benchmarks."""

    def __init__(self, benchmarks: Mapping[str, Iterable[Item]]) -> None:
        self._names: list[tuple[str, str]] = []
        self._sizes: list[int] = []
        self._exact: defaultdict[str, list[int]] = defaultdict(list)
        self._holders: defaultdict[Words, list[int]] = defaultdict(list)
        for benchmark, items in benchmarks.items():
            for item in items:
                self._add(benchmark, item)

    def __len__(self) -> int:
        return len(self._names)

    def find(self, prompts: Iterable[str]) -> list[Match]:
        """Every match of every prompt, in the order of the prompts."""
        return [
            match
            for number, prompt in enumerate(prompts)
            for match in self._matches(number, normalize(prompt))
        ]

    def _add(self, benchmark: str, item: Item) -> None:
        normalized = normalize(item.prompt)
        windows = windows_of(normalized)
        entry = len(self._names)
        self._names.append((benchmark, item.id))
        self._sizes.append(len(windows))
        self._exact[normalized].append(entry)
        for window in windows:
            self._holders[window].append(entry)

    def _matches(self, number: int, normalized: str) -> list[Match]:
        if not self._can_match(normalized.split()):
            return []
        windows = windows_of(normalized)
        exact = self._exact.get(normalized, [])
        shared: Counter[int] = Counter()
        for window in windows:
            shared.update(self._holders.get(window, ()))
        similarities = dict.fromkeys(exact, 1.0)
        for entry, common in shared.items():
            # |A and B| / |A or B|, with |A or B| = |A| + |B| - |A and B|.
            similarity = common / (len(windows) + self._sizes[entry] - common)
            if similarity > NEAR:
                similarities.setdefault(entry, similarity)
        known = set(exact)
        return [
            Match(
                benchmark=self._names[entry][0],
                item=self._names[entry][1],
                number=number,
                kind="exact" if entry in known else "near",
                similarity=similarities[entry],
            )
            for entry in sorted(similarities)
        ]

    def _can_match(self, words: Sequence[str]) -> bool:
        """Whether any prompt may be near, judging from a fifth of the windows.

        A near prompt shares more than 0.8 of these windows, so of any 0.2 of them at least one.
        """
        number = len(words) - WINDOW + 1
        if number <= 1:
            return True
        few = [
            tuple(words[start : start + WINDOW]) for start in range(int(number * (1 - NEAR)) + 1)
        ]
        return any(window in self._holders for window in few) or len(set(few)) < len(few)


def normalize(prompt: str) -> str:
    """A prompt without what does not change its words."""
    folded = unicodedata.normalize("NFKC", prompt).casefold()
    return " ".join("".join(map(_replace, folded)).split())


@cache
def _replace(letter: str) -> str:
    if letter.isalnum():
        unspaced = any(low <= ord(letter) <= high for low, high in _UNSPACED)
        return f" {letter} " if unspaced else letter
    if letter in "'’":
        return ""
    # Marks belong to the letter before them, and symbols such as "+" say something. All else parts
    # words: white space, line breaks, commas, hyphens.
    return letter if unicodedata.category(letter)[0] in "MS" else " "


def windows_of(normalized: str) -> Windows:
    """All runs of five words; the whole prompt if it is shorter, and nothing of an empty one."""
    words = tuple(normalized.split())
    if len(words) <= WINDOW:
        return frozenset((words,)) if words else frozenset()
    return frozenset(words[start : start + WINDOW] for start in range(len(words) - WINDOW + 1))


def count_items(matches: Iterable[Match], benchmarks: Iterable[str]) -> dict[str, dict[str, int]]:
    """Per benchmark, how many of its items were found exactly and how many only nearly."""
    best: dict[tuple[str, str], str] = {}
    for match in matches:
        if match.kind == "exact" or (match.benchmark, match.item) not in best:
            best[match.benchmark, match.item] = match.kind
    counts = {benchmark: {"exact": 0, "near": 0} for benchmark in benchmarks}
    for (benchmark, _), kind in best.items():
        counts[benchmark][kind] += 1
    return counts
