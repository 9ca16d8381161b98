"""NHR-Edit, both parts: loose JPEGs and one table; rewritten instructions are further prompts."""

from __future__ import annotations

from deepgen.data.importers.fields import Fields
from deepgen.data.importers.published import Layout, Part

LAYOUT = Layout(
    title="NHR-Edit",
    home="iitolstykh/NHR-Edit and iitolstykh/NHR-Edit-part2",
    parts={
        "train": Part(
            fields=Fields(
                target=("edited_file_name",),
                references=("source_file_name",),
                texts={
                    "edit_instruction": "instruction",
                    "augmented_instructions": "instruction_rewritten",
                },
                skill_fields=("category",),
            ),
            tables=("train/metadata.jsonl", "*/train/metadata.jsonl", "metadata.jsonl"),
            # Paths start from the table, in one of the two repositories or in a folder of both.
            starts_at="table",
        )
    },
    licence="Apache-2.0",
    redistributable=True,
    unverified="the names of its fields",
)

open_source = LAYOUT.open_source
