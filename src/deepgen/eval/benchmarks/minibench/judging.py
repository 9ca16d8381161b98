"""Whether an image fulfils a request of MiniBench, row by row.

Nothing here looks at pixels but :func:`judge_untouched`: an image is read once, by
:mod:`deepgen.mini.reader.scenes`, and what was read is held against the scene that was asked for.
The whole sentence counts, the background included; what a sentence leaves out is the world's usual
(own colours, middle size, white), of which only the background is asked for. Better images than
the one in mind exist for every sentence, so places have gallery.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations
from math import hypot, log10
from typing import Literal

import numpy as np
from PIL import Image

from deepgen.eval.benchmarks.minibench.rows import KEPT_DECIBELS, Row
from deepgen.mini.reader.objects import NONE, WORD
from deepgen.mini.reader.parts import Mask
from deepgen.mini.reader.scenes import DetectedItem, DetectedScene
from deepgen.mini.world.layout import Relation, relation
from deepgen.mini.world.sampling import EDIT_KINDS, Sample
from deepgen.mini.world.scene import Item, Thing, Word
from deepgen.mini.world.wording import LARGE, SMALL

# An image that is kept to the last bit has no finite ratio, which JSON cannot say.
MOST_DECIBELS = 99.0

# The sampler keeps off these sizes on both sides; between "small" and the middle sizes from 0.5 on,
# and between those up to 0.8 and "large".
_SMALL_BELOW = (SMALL + 0.5) / 2
_LARGE_FROM = (LARGE + 0.8) / 2

# Half the distance of the places that a thing can be moved to, in fractions of the image's sides.
_PLACE_ROOM = 0.125

# A changed number says nothing about which of a group stay where they were.
_FREE_PLACES = ("change count", "more or fewer")

_STANDING = ("relation", "add", "together")


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What became of one sample."""

    outcome: Literal["ok", "wrong", "failed"]
    """``failed`` where nothing can be said: such samples count neither way."""
    score: float
    """1 or 0; decibels for what was to be left alone."""
    reason: str


def judge(row: Row, sample: Sample, seen: DetectedScene) -> Verdict:
    """Hold what an image shows against what was asked for, in every row but the untouched one."""
    if row == "edits: untouched region kept":
        raise ValueError("pixels, not scenes, tell what was left alone: use judge_untouched")
    faults = _word_faults(sample, seen) if row == "words" else _scene_faults(sample, seen)
    reason = next(faults, None)
    return Verdict(outcome="wrong", score=0.0, reason=reason) if reason else _RIGHT


def judge_untouched(source: Image.Image, image: Image.Image, kept: Mask) -> Verdict:
    """Whether an edit left alone what it was not asked to change.

    Peak signal-to-noise ratio over the kept pixels, all channels together::

        10 log10(255^2 / mean((source - image)^2))

    Args:
        kept: The pixels that the instruction leaves alone; ``mini.drawing.kept`` knows them.
    """
    if source.size != image.size:
        return Verdict(
            outcome="failed",
            score=0.0,
            reason=f"the source is {source.size}, the edit {image.size} (width, height)",
        )
    if not kept.any():
        return Verdict(outcome="failed", score=0.0, reason="the edit leaves nothing alone")
    before, after = (np.asarray(each.convert("RGB"), np.float64)[kept] for each in (source, image))
    error = float(((before - after) ** 2).mean())
    decibels = min(MOST_DECIBELS, 10 * log10(255**2 / error)) if error else MOST_DECIBELS
    kept_well = decibels >= KEPT_DECIBELS
    return Verdict(
        outcome="ok" if kept_well else "wrong",
        score=decibels,
        reason=f"{decibels:.1f} dB where nothing was to change",
    )


_RIGHT = Verdict(outcome="ok", score=1.0, reason="as asked")


def _word_faults(sample: Sample, seen: DetectedScene) -> Iterator[str]:
    wanted = sorted(word.text for word in sample.target.words)
    found = sorted(str(item.text) for item in seen.words)
    if wanted != found:
        yield f"asked for the words {_quoted(wanted)}, found {_quoted(found)}"


def _scene_faults(sample: Sample, seen: DetectedScene) -> Iterator[str]:
    """Everything about an image that is not as asked, the plainest first."""
    target = sample.target
    wanted = Counter(_label(item) for item in target.items)
    found = Counter(item.label for item in seen.items)
    if wanted != found:
        # Nothing else can be asked of an image without knowing which thing is which.
        yield f"asked for {_listed(wanted)}, found {_listed(found)}"
        return
    yield from _word_faults(sample, seen)
    if seen.background != target.background:
        yield f"asked for a {target.background} background, found {seen.background}"
    pairs = _paired(target.items, seen.items)
    for item, own in pairs:
        yield from _item_faults(sample.kind, item, own)
        if sample.kind in EDIT_KINDS and sample.kind not in _FREE_PLACES:
            off = max(abs(a - b) for a, b in zip(item.center, own.center, strict=True))
            if off > _PLACE_ROOM:
                yield f"{own.label} stands at {_place(own)}, not near {_place(item)}"
    if sample.kind in _STANDING:
        (first, own_first), (second, own_second) = pairs
        stands = relation(first, second, target)
        found_stands = _stands(own_first, own_second, target.height, target.width)
        if stands != found_stands:
            yield f"{own_first.label} is {found_stands} {own_second.label}, not {stands}"


def _item_faults(kind: str, item: Item, own: DetectedItem) -> Iterator[str]:
    if not isinstance(item, Thing):
        return
    if item.tint is not None and own.tint != item.tint:
        yield f"asked for a {item.tint} {item.name}, found {own.tint}"
    if kind in ("style", "change style") and own.style != item.style:
        yield f"asked for the style {item.style}, found {own.style}"
    if kind == "size":
        if item.size < SMALL and own.size >= _SMALL_BELOW:
            yield f"asked for a small {item.name}, found one of {own.size:.2f}"
        if item.size >= LARGE and own.size < _LARGE_FROM:
            yield f"asked for a large {item.name}, found one of {own.size:.2f}"


def _paired(
    items: tuple[Item, ...], seen: tuple[DetectedItem, ...]
) -> tuple[tuple[Item, DetectedItem], ...]:
    """Each wanted item with a found one of its name; of several, so that all are nearest."""
    ways = (
        tuple(zip(items, order, strict=True))
        for order in permutations(seen, len(items))
        if all(_label(item) == own.label for item, own in zip(items, order, strict=True))
    )
    return min(ways, key=_distance, default=())


def _label(item: Item) -> str:
    return WORD if isinstance(item, Word) else item.name


def _distance(pairs: tuple[tuple[Item, DetectedItem], ...]) -> float:
    return sum(
        hypot(item.center[0] - own.center[0], item.center[1] - own.center[1]) for item, own in pairs
    )


def _stands(first: DetectedItem, second: DetectedItem, height: int, width: int) -> Relation:
    """How the first thing stands to the second, by the longer way between their centres."""
    down = (second.center[0] - first.center[0]) * height
    right = (second.center[1] - first.center[1]) * width
    if abs(right) > abs(down):
        return "left of" if right > 0 else "right of"
    return "above" if down > 0 else "below"


def _place(item: Item | DetectedItem) -> str:
    return f"({item.center[0]:.2f} down, {item.center[1]:.2f} across)"


def _quoted(words: list[str]) -> str:
    return ", ".join(f'"{word}"' for word in words) or "none"


def _listed(names: Counter[str]) -> str:
    shown = {name: "unrecognised" if name == NONE else name for name in names}
    return ", ".join(f"{names[name]} {shown[name]}" for name in sorted(names)) or "nothing"
