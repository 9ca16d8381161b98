"""The rows of MiniBench: which kinds of samples each asks for."""

from __future__ import annotations

from typing import Literal

from deepgen.mini.world.editing import GENERAL as PLAIN_EDITS
from deepgen.mini.world.editing import REFERENCES
from deepgen.mini.world.editing import TEXT as WORD_EDITS
from deepgen.mini.world.riddles import DRAWINGS as RIDDLES
from deepgen.mini.world.riddles import EDITS as RIDDLE_EDITS

Row = Literal[
    "single object",
    "two objects",
    "counting",
    "colours",
    "position",
    "colour attribution",
    "edits: instruction followed",
    "edits: untouched region kept",
    "words",
    "reasoning: drawing",
    "reasoning: editing",
]

ROWS: dict[Row, tuple[str, ...]] = {
    "single object": ("one", "size", "style"),
    "two objects": ("two",),
    "counting": ("count",),
    "colours": ("tint",),
    "position": ("relation",),
    "colour attribution": ("two tints",),
    "edits: instruction followed": (*PLAIN_EDITS, *WORD_EDITS, *REFERENCES),
    "edits: untouched region kept": (*PLAIN_EDITS, *WORD_EDITS),
    "words": ("word", "word below"),
    "reasoning: drawing": tuple(RIDDLES),
    "reasoning: editing": tuple(RIDDLE_EDITS),
}
"""The kinds of samples that each row asks for, in turns."""

OBJECT_ROWS: tuple[Row, ...] = (
    "single object",
    "two objects",
    "counting",
    "colours",
    "position",
    "colour attribution",
)
"""Whose mean is the figure that stands for GenEval's."""

KEPT_DECIBELS = 25.0
"""What an edit was not asked to change is kept from here on."""
