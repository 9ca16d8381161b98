"""GPT-Image-Edit-1.5M: a folder for each task, with input, output and metadata."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from deepgen.data.importers.fields import Fields, Locate, read_fields
from deepgen.data.importers.published import Layout, Part
from deepgen.data.importers.source import BadRow, RawSample
from deepgen.data.records import PromptKind

KINDS: dict[str, PromptKind] = {
    "original": "instruction",
    "rewrite": "instruction_rewritten",
    "complex": "instruction_complex",
}
"""Kind of the instruction, by the publisher's ``instruction_type``."""

PEOPLE = re.compile(r"\b(faces?|man|men|wom[ae]n|person|people|boys?|girls?|portrait)\b", re.I)
"""The identity of people is often lost in these edits; their samples have the skill ``face``."""


def fields_for(kind: PromptKind | None, *, face: bool) -> Fields:
    """The fields of a row whose instruction is of some kind."""
    return Fields(
        target=("output",),
        references=("input",),
        texts={"instruction": kind or "instruction"},
        skills=("general", "face") if face else ("general",),
        skill_fields=("task", "dataset_source"),
        id=("id",),
        split_by_reference=True,
    )


def read(row: Mapping[str, Any], native_id: str, locate: Locate) -> Iterator[RawSample | BadRow]:
    """The sample of a row; only paths of the metadata count, since folders hold older outputs."""
    stated = row.get("instruction_type", "original")
    if stated not in KINDS:
        message = f"instruction_type {str(stated)[:40]!r}, expected one of {', '.join(KINDS)}"
        yield BadRow(native_id=native_id, reason="kind", message=message)
        return
    texts = f"{row.get('instruction')} {row.get('input_description')}"
    fields = fields_for(KINDS[stated], face=bool(PEOPLE.search(texts)))
    found = read_fields(row, fields, native_id, locate)
    if stated != "original" and row.get("id") not in (None, ""):
        # The rows of one source image share its id.
        found = replace(found, native_id=f"{found.native_id}/{stated}")
    yield found


LAYOUT = Layout(
    title="GPT-Image-Edit-1.5M",
    home="UCSC-VLAA/GPT-Image-Edit-1.5M",
    parts={
        "metadata": Part(
            fields=fields_for(None, face=False),
            tables=("**/metadata/*.json", "**/metadata/*.jsonl"),
            starts_at="above table",
            read=read,
        )
    },
    licence="CC-BY-4.0",
    redistributable=True,
    advice=(
        "edits of people have the skill face; the separate training tables of the publisher have "
        "another form: read those with uniworld",
    ),
)

open_source = LAYOUT.open_source
