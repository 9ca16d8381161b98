"""Nano-consistent-150k: JSON Lines for each task, many edits of each portrait."""

from __future__ import annotations

from deepgen.data.importers.fields import Fields
from deepgen.data.importers.published import Layout, Part

LAYOUT = Layout(
    title="Nano-consistent-150k",
    home="Yejy53/Nano-consistent-150k",
    parts={
        "edit": Part(
            fields=Fields(
                target=("output_image",),
                references=("input_images", "input_image"),
                texts={"instruction": "instruction"},
                skills=("general", "identity"),
                absolute=True,
                split_by_reference=True,
            ),
            tables=("json/*.jsonl", "jsons/*.jsonl"),
        )
    },
    licence="Apache-2.0",
    redistributable=True,
    prefixes=("Nano-150k",),
    unverified="the names of its files and fields",
    advice=("all edits of one portrait are held out together",),
)

open_source = LAYOUT.open_source
