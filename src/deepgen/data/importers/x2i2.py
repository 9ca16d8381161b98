"""X2I2 (OmniGen2): JSON Lines for each subset, often with several references."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from deepgen.data.importers.fields import Fields, Locate, read_fields
from deepgen.data.importers.published import Layout, Part
from deepgen.data.importers.source import BadRow, RawSample

FIELDS = Fields(
    target=("output_image",),
    references=("input_images", "input_image"),
    texts={"instruction": "instruction"},
)

PLACEHOLDER = re.compile(r"(?:<img>\s*)?<\|image_(\d+)\|>(?:\s*</img>)?")
"""Where an interleaved instruction refers to a reference."""


def read(row: Mapping[str, Any], native_id: str, locate: Locate) -> Iterator[RawSample | BadRow]:
    """The sample of a row, with its subset as a skill.

    References come before the instruction in our prompts, so placeholders become their numbers.
    """
    texts = {
        key: PLACEHOLDER.sub(r"image \1", row[key])
        if isinstance(row.get(key), str)
        else row.get(key)
        for key in FIELDS.texts
    }
    found = read_fields({**row, **texts}, FIELDS, native_id, locate)
    if isinstance(found, RawSample):
        parts = native_id.split("/")
        subset = parts[1] if len(parts) > 2 and parts[0] == "jsons" else parts[-2]
        skills = ("general", subset, *(("multi_ref",) if len(found.references) > 1 else ()))
        found = replace(found, skills=skills)
    yield found


LAYOUT = Layout(
    title="X2I2",
    home="OmniGen2/X2I2",
    parts={"edit": Part(fields=FIELDS, tables=("jsons/**/*.jsonl", "*/*.jsonl"), read=read)},
    unverified="the names of its files and fields, and the form of placeholders",
)

open_source = LAYOUT.open_source
