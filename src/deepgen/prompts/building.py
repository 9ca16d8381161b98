"""Building files of prompts: from our own generators and from lists, without any benchmark's."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import count as count_up
from typing import Literal, Protocol, runtime_checkable

from deepgen.data.randomness import key_of
from deepgen.errors import DataError
from deepgen.mini.world import prompting, version0
from deepgen.mini.world.request import SceneRequest
from deepgen.mini.world.sampling import sample
from deepgen.rl.prompts import Prompt

MiniWorld = Literal["mini", "mini-version0"]

TEXT = "text"
"""Category of the prompts that ask for text, and so have target texts."""

SIDE = 128
"""Canvas of the mini's scenes, in pixels; its reward does not depend on it."""

MOST_SKIPPED = 1000
"""Candidates in a row that repeat others or are a benchmark's, until a generator is exhausted."""

_MINI_KINDS = (*prompting.GENERAL, *prompting.TEXT)

# Straight, curly, angle and CJK quotes.
_QUOTED = re.compile(
    '"([^"]+)"|“([^”]+)”|«([^»]+)»|‹([^›]+)›|「([^」]+)」|『([^』]+)』|《([^》]+)》'
)


@runtime_checkable
class Overlap(Protocol):
    """A prompt that is a benchmark's."""

    @property
    def benchmark(self) -> str:
        """Its name."""
        ...

    @property
    def item(self) -> str:
        """Id of the benchmark's prompt."""
        ...

    @property
    def number(self) -> int:
        """Place of ours in the list."""
        ...

    @property
    def kind(self) -> str:
        """``exact`` or ``near``."""
        ...


@runtime_checkable
class BenchmarkPrompts(Protocol):
    """Finds prompts of benchmarks in a list, compared after normalisation."""

    def find(self, prompts: Iterable[str]) -> Sequence[Overlap]:
        """All of them, in the order of the list."""
        ...


def check_overlap(prompts: Sequence[Prompt], benchmarks: BenchmarkPrompts) -> None:
    """Refuse prompts that are a benchmark's: its results would mean nothing.

    Raises:
        DataError: One is; names it, the benchmark, and how many there are.
    """
    found = benchmarks.find(each.prompt for each in prompts)
    if found:
        first = found[0]
        ours = prompts[first.number]
        number = len({each.number for each in found})
        raise DataError(
            f"{number} of {len(prompts)} prompts are prompts of benchmarks, the first {ours.id} "
            f"({ours.prompt[:120]!r}), which is {first.item} of {first.benchmark} ({first.kind}); "
            "remove them"
        )


def check_targets(prompts: Sequence[Prompt]) -> None:
    """Refuse prompts of the category ``text`` that do not say what is to be written.

    Raises:
        DataError: One does not.
    """
    bare = [each for each in prompts if each.category == TEXT and not each.target_texts]
    if bare:
        raise DataError(
            f"{len(bare)} prompts of the category {TEXT} have no target_texts, the first "
            f"{bare[0].id} ({bare[0].prompt[:120]!r}); add them, or take them from quotes with "
            "--quoted-targets"
        )


def generate(
    make: Callable[[int], Prompt], count: int, benchmarks: BenchmarkPrompts, *, start: int = 0
) -> list[Prompt]:
    """The first ``count`` prompts of a generator that are new and no benchmark's.

    Args:
        make: The prompt of an index.
        start: The first index.

    Raises:
        DataError: The generator has too few.
    """
    prompts: dict[str, Prompt] = {}
    skipped = 0
    for index in count_up(start):
        if len(prompts) == count:
            break
        prompt = make(index)
        is_known = prompt.prompt in prompts or bool(benchmarks.find([prompt.prompt]))
        skipped = skipped + 1 if is_known else 0
        if skipped == MOST_SKIPPED:
            raise DataError(
                f"there are only {len(prompts)} different prompts of {prompt.source}, expected "
                f"{count}; ask for fewer"
            )
        if not is_known:
            prompts[prompt.prompt] = prompt
    return list(prompts.values())


def mini_prompt(index: int, world: MiniWorld = "mini") -> Prompt:
    """Prompt ``index`` of the mini's world, in either language, with its scene.

    None shows a held-out composition. ``mini-version0`` is the first embedded model's part.
    """
    rng = random.Random(key_of("mini prompt", world, index))
    if world == "mini":
        wanted = sample(index, kind=rng.choice(_MINI_KINDS), canvas=(SIDE, SIDE))
        text = rng.choice((wanted.prompt.en, wanted.prompt.zh))
        request = SceneRequest(kind=wanted.kind, target=wanted.target)
        category = TEXT if wanted.target.words else "general"
    else:
        drawn = _first_world_drawing(index)
        text, category = drawn.text, "general"
        request = SceneRequest(kind=_plain_kind(drawn), target=drawn.target)
    return Prompt(
        id=f"{world}/{index}",
        prompt=text,
        category=category,
        target_texts=tuple(word.text for word in request.target.words),
        details={"scene": request.to_json()},
        source=f"deepgen, {world}",
        license="Apache-2.0",
    )


def with_quoted_targets(prompt: Prompt) -> Prompt:
    """A prompt whose targets are what stands between quotes, unless it has some already."""
    found = ["".join(groups).strip() for groups in _QUOTED.findall(prompt.prompt)]
    texts = tuple(each for each in found if each)
    return replace(prompt, target_texts=texts) if texts and not prompt.target_texts else prompt


def count_categories(prompts: Iterable[Prompt]) -> Mapping[str, int]:
    """How many prompts each category has."""
    counts: dict[str, int] = {}
    for prompt in prompts:
        counts[prompt.category] = counts.get(prompt.category, 0) + 1
    return counts


def _first_world_drawing(index: int) -> version0.TextSample:
    """The first text-to-image sample of this index."""
    for attempt in count_up():
        drawn = version0.sample(index, f"rl {attempt}")
        if drawn.kind == "draw":
            return drawn
    raise AssertionError


def _plain_kind(drawn: version0.TextSample) -> str:
    """Whether there are two, and whether the text says how they stand."""
    if len(drawn.target.things) == 1:
        return "one"
    says_where = any(word in drawn.text for word in ("left", "right", "左", "右"))
    return "relation" if says_where else "two"
