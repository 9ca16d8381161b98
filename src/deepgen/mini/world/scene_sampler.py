"""The random choices of a sample: its composition, and where things stand.

For training all choices are free, and the caller rejects what shows a held-out composition; for
the benchmark a sample's composition is drawn from the held-out ones.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass
from typing import cast

from deepgen.mini.world.held_out import WORDS, Aspect, Composition, code, held_out
from deepgen.mini.world.knowledge import OBJECTS, TINTABLE, TINTS, Phrase
from deepgen.mini.world.layout import Relation
from deepgen.mini.world.lettering import aspect as word_aspect
from deepgen.mini.world.scene import BACKGROUNDS, Background, Item, Scene, Style, Thing, Tint, Word
from deepgen.mini.world.wording import Forms, fill

NAMES = tuple(OBJECTS)

# (y, x) of the first thing in each relation; the second stands on the other side of the middle.
_FIRST_PLACE: dict[Relation, tuple[float, float]] = {
    "left of": (0.5, 0.27),
    "right of": (0.5, 0.73),
    "above": (0.27, 0.5),
    "below": (0.73, 0.5),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleSpec:
    """A prompt or instruction in both languages, and the scene that fulfils it."""

    prompt: Phrase
    target: Scene
    sources: tuple[Scene, ...] = ()
    """The images to edit, as large as the target; none for text-to-image."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneSampler:
    """The per-sample RNG, and the choices that are made with it."""

    rng: random.Random
    bench: bool
    height: int
    width: int
    names: tuple[str, ...] = NAMES
    """The objects to choose from, for a part of the world."""

    def backdrop(self, names: Collection[str] = ()) -> tuple[str, Background]:
        """An object, one of ``names`` if given, and a background for it."""
        if self.bench:
            chosen = self._from_list("background", names or self.names)
            return chosen[1], cast(Background, chosen[2])
        return self.rng.choice(list(names or self.names)), self.background()

    def tinted(self) -> tuple[str, Tint]:
        """A tintable object and its tint."""
        if self.bench:
            chosen = self._from_list("tint", TINTABLE)
            return chosen[1], cast(Tint, chosen[2])
        return self.rng.choice(TINTABLE), self.rng.choice(list(TINTS))

    def counted(self) -> tuple[str, int]:
        """An object and how many of it, two to four."""
        if self.bench:
            chosen = self._from_list("count", NAMES)
            return chosen[1], int(chosen[2])
        return self.name(), self.rng.randint(2, 4)

    def related(self) -> tuple[str, Relation, str]:
        """Two objects and how the first stands to the second."""
        if self.bench:
            chosen = self._from_list("relation", NAMES)
            return chosen[1], cast(Relation, chosen[2]), chosen[3]
        first, second = self.rng.sample(NAMES, 2)
        return first, self.rng.choice(("left of", "above")), second

    def word(self) -> str:
        """A word to write."""
        return self.rng.choice(held_out("word"))[1] if self.bench else self.any_word()

    def any_word(self) -> str:
        """A word that need not be held out: two times in three English, else a code."""
        if self.rng.random() < 2 / 3:
            return self.rng.choice(WORDS)
        return code(self.rng.randrange(1_000_000))

    def name(self, *but: str) -> str:
        """Any object, except some."""
        return self.rng.choice([name for name in self.names if name not in but])

    def background(self, *but: Background) -> Background:
        """Any background, except some."""
        return self.rng.choice([color for color in BACKGROUNDS if color not in but])

    def fill(self, forms: Forms, **slots: Phrase) -> Phrase:
        """One of the forms in either language, its gaps filled."""
        return fill(forms, self.rng, **slots)

    def scene(self, background: Background, *items: Item) -> Scene:
        """The items on this sample's canvas."""
        return Scene(height=self.height, width=self.width, background=background, items=items)

    def alone(
        self,
        name: str,
        smallest: float = 0.5,
        largest: float = 0.8,
        tint: Tint | None = None,
        style: Style = "colour",
    ) -> Thing:
        """One thing near the middle."""
        size = self._size(smallest, largest)
        jitter = min(0.06, (1 - size) / 2)
        center = (self._near(0.5, jitter), self._near(0.5, jitter))
        return Thing(name=name, center=center, size=size, tint=tint, style=style)

    def pair(
        self,
        first: str,
        stands: Relation,
        second: str,
        tints: tuple[Tint | None, Tint | None] = (None, None),
        style: Style = "colour",
    ) -> tuple[Thing, Thing]:
        """Two things in a relation."""
        y, x = _FIRST_PLACE[stands]
        places = ((y, x), (1 - y, 1 - x))
        one, other = (
            Thing(
                name=name,
                center=(self._near(place[0], 0.01), self._near(place[1], 0.01)),
                size=self._size(0.36, 0.43),
                tint=tint,
                style=style,
            )
            for name, place, tint in zip((first, second), places, tints, strict=True)
        )
        return one, other

    def group(self, names: Collection[str], tint: Tint | None = None) -> tuple[Thing, ...]:
        """Up to four things in the corners of the canvas; up to three may stand in a row."""
        if len(names) <= 3 and self.rng.random() < 0.4:
            places = [(0.5, (index + 0.5) / 3) for index in range(3)]
            size = self._size(0.24, 0.3)
        else:
            places = [(y, x) for y in (0.27, 0.73) for x in (0.27, 0.73)]
            size = self._size(0.34, 0.43)
        # Independent of how many names: a shorter list gives the first things of a longer one.
        self.rng.shuffle(places)
        return tuple(
            Thing(
                name=name,
                center=(self._near(place[0], 0.01), self._near(place[1], 0.01)),
                size=size,
                tint=tint,
            )
            for name, place in zip(names, places, strict=False)
        )

    def lone_word(self, text: str) -> Word:
        """A word in the middle, as large as fits up to two fifths of the canvas."""
        size = self._size(0.14, min(0.4, self._widest(text)))
        return Word(text=text, center=(self._near(0.5, 0.1), 0.5), size=size)

    def captioned(self, name: str) -> Thing:
        """A thing that leaves room for a word below it."""
        center = (self._near(0.38, 0.02), self._near(0.5, 0.03))
        return Thing(name=name, center=center, size=self._size(0.48, 0.6))

    def caption(self, text: str) -> Word:
        """A word along the bottom."""
        size = self._size(0.13, min(0.18, self._widest(text)))
        return Word(text=text, center=(self._near(0.84, 0.01), 0.5), size=size)

    def _widest(self, text: str) -> float:
        return 0.92 * self.width / min(self.height, self.width) / word_aspect(text)

    def _near(self, middle: float, jitter: float) -> float:
        return self.rng.uniform(middle - jitter, middle + jitter)

    def _size(self, smallest: float, largest: float) -> float:
        return self.rng.uniform(smallest, largest)

    def _from_list(self, aspect: Aspect, names: Collection[str]) -> Composition:
        return self.rng.choice([parts for parts in held_out(aspect) if parts[1] in names])
