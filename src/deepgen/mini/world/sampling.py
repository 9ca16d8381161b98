"""Samples of the whole world, text-to-image and edits of every kind.

A sample is a function of its split, kind and index, on any machine and in any process.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from deepgen.mini.world import editing, prompting, riddles
from deepgen.mini.world.held_out import shows_held_out
from deepgen.mini.world.layout import is_tidy
from deepgen.mini.world.scene_sampler import SampleSpec, SceneSampler

Split = Literal["train", "bench"]
Capability = Literal["general", "text", "reasoning", "references"]

_FAMILIES: tuple[tuple[Capability, dict[str, Callable[[SceneSampler], SampleSpec]]], ...] = (
    ("general", prompting.GENERAL),
    ("text", prompting.TEXT),
    ("reasoning", riddles.DRAWINGS),
    ("general", editing.GENERAL),
    ("text", editing.TEXT),
    ("reasoning", riddles.EDITS),
    ("references", editing.REFERENCES),
)
_BUILDERS = {
    kind: (capability, build)
    for capability, builders in _FAMILIES
    for kind, build in builders.items()
}
DRAWING_KINDS = (*prompting.GENERAL, *prompting.TEXT, *riddles.DRAWINGS)
EDIT_KINDS = (*editing.GENERAL, *editing.TEXT, *riddles.EDITS, *editing.REFERENCES)
KINDS = (*DRAWING_KINDS, *EDIT_KINDS)

# Half of all images are squares of the model's own size, the others any of these by any.
USUAL_SIDE = 128
SIDES = (96, 128, 160, 192)

# A scene shows something held out one time in ten or so; far more failures in a row are a bug.
_ATTEMPTS = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample(SampleSpec):
    """A spec of one of the kinds."""

    kind: str
    """One of ``KINDS``."""
    capability: Capability


def sample(
    index: int,
    split: Split = "train",
    kind: str | None = None,
    canvas: tuple[int, int] | None = None,
) -> Sample:
    """Sample number ``index``.

    Args:
        index: Any number; neighbours have nothing in common.
        split: ``train`` shows nothing held out; every target of ``bench`` does.
        kind: One of ``KINDS``; without one, all kinds are equally likely.
        canvas: (height, width) in pixels, multiples of 32; without one, sizes vary.
    """
    rng = random.Random(f"mini, {split}, {kind}, {index}")
    kind = kind or rng.choice(KINDS)
    capability, build = _BUILDERS[kind]
    height, width = canvas or _canvas(rng)
    sampler = SceneSampler(rng=rng, bench=split == "bench", height=height, width=width)
    for _ in range(_ATTEMPTS):
        spec = build(sampler)
        if _belongs(spec, split):
            return Sample(
                kind=kind,
                capability=capability,
                prompt=spec.prompt,
                target=spec.target,
                sources=spec.sources,
            )
    raise RuntimeError(f"no {split} sample of kind {kind!r} in {_ATTEMPTS} attempts")


def _belongs(spec: SampleSpec, split: Split) -> bool:
    scenes = (spec.target, *spec.sources)
    assert all(is_tidy(scene) for scene in scenes), spec
    if split == "bench":
        return shows_held_out(spec.target)
    return not any(shows_held_out(scene) for scene in scenes)


def _canvas(rng: random.Random) -> tuple[int, int]:
    if rng.random() < 0.5:
        return USUAL_SIDE, USUAL_SIDE
    return rng.choice(SIDES), rng.choice(SIDES)
