"""OpenGPT-4o-Image: split gzip archives, and tables that are JSON arrays or JSON Lines."""

from __future__ import annotations

from deepgen.data.importers.fields import Fields
from deepgen.data.importers.published import Layout, Part

LAYOUT = Layout(
    title="OpenGPT-4o-Image",
    home="WINDop/OpenGPT-4o-Image",
    parts={
        "t2i": Part(
            fields=Fields(target=("output_image",), texts={"input_prompt": None}),
            tables=("gen.json", "gen.jsonl"),
            archives=("gen.tar*",),
        ),
        "edit": Part(
            fields=Fields(
                target=("output_image",),
                texts={"input_prompt": "instruction"},
                references=("input_image",),
            ),
            tables=("editing.json", "editing.jsonl"),
            archives=("editing.tar*",),
        ),
    },
    licence="Apache-2.0",
    redistributable=True,
)

open_source = LAYOUT.open_source
