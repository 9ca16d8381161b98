"""Edits of rendered images: two designs that differ in one thing, and the instruction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from deepgen.data.records import PromptVariant
from deepgen.data.rendering.design import Design

Change = Literal["replace", "recolor", "add", "remove"]

CHANGES: tuple[Change, ...] = ("replace", "replace", "replace", "recolor", "add", "remove")
"""Half of all edits change a word."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Edit:
    """What changes between a reference and its target."""

    before: Design
    after: Design
    change: Change
    instructions: tuple[PromptVariant, ...]


def draw_edit(design: Design, rng: np.random.Generator) -> Edit:
    """An edit of a design: another word, another colour, or text that comes or goes."""
    change = CHANGES[int(rng.integers(len(CHANGES)))]
    if change == "replace":
        number = int(rng.integers(len(design.blocks)))
        found = design.blocks[number].text.replaced(rng)
        if found is not None:
            text, old, new = found
            blocks = list(design.blocks)
            blocks[number] = replace(blocks[number], text=text)
            after = replace(design, blocks=tuple(blocks))
            return _edit(design, after, "replace", _replacing(old, new), rng)
        change = "recolor"
    if change == "recolor":
        after = design.recolored(rng)
        english, chinese = after.ink.english, after.ink.chinese
        texts = (
            (f"Make the text {english}.", f"Change the colour of the lettering to {english}."),
            (f"把文字改成{chinese}。", f"将字的颜色换成{chinese}。"),
        )
        return _edit(design, after, "recolor", texts, rng)
    bare = replace(design, blocks=())
    shown = " ".join(" ".join(each.text.text.split("\n")) for each in design.blocks)
    color, chinese = design.ink.english, design.ink.chinese
    if change == "add":
        adding = (
            (f"Add the text “{shown}” in {color}.", f"Write “{shown}” on it in {color} letters."),
            (f"用{chinese}添加文字“{shown}”。", f"在上面用{chinese}的字写上“{shown}”。"),
        )
        return _edit(bare, design, "add", adding, rng)
    removing = (
        ("Remove all text.", f"Erase the words “{shown}”.", "Take the lettering away."),
        ("去掉所有文字。", f"擦除文字“{shown}”。"),
    )
    return _edit(design, bare, "remove", removing, rng)


def _replacing(old: str, new: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return (
        (
            f"Change “{old}” to “{new}”.",
            f"Replace the word “{old}” with “{new}”, and keep everything else.",
            f"It should say “{new}” instead of “{old}”.",
        ),
        (f"把“{old}”改成“{new}”。", f"将文字“{old}”替换为“{new}”，其余不变。"),
    )


def _edit(
    before: Design,
    after: Design,
    change: Change,
    texts: tuple[Sequence[str], Sequence[str]],
    rng: np.random.Generator,
) -> Edit:
    instructions = tuple(
        PromptVariant(
            text=options[int(rng.integers(len(options)))], kind="instruction", lang=lang, weight=1.0
        )
        for options, lang in zip(texts, ("en", "zh"), strict=True)
    )
    return Edit(before=before, after=after, change=change, instructions=instructions)
