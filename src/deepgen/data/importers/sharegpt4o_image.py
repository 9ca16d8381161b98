"""ShareGPT-4o-Image: JSON tables with relative paths, the images in tars beside them."""

from __future__ import annotations

from deepgen.data.importers.fields import Fields
from deepgen.data.importers.published import Layout, Part

LAYOUT = Layout(
    title="ShareGPT-4o-Image",
    home="FreedomIntelligence/ShareGPT-4o-Image",
    parts={
        "t2i": Part(
            fields=Fields(target=("output_image",), texts={"input_prompt": None}),
            tables=("text_to_image.json",),
            archives=("text_to_image*",),
        ),
        "edit": Part(
            fields=Fields(
                target=("output_image",),
                texts={"input_prompt": "instruction"},
                references=("input_image",),
            ),
            tables=("text_and_image_to_image.json",),
            archives=("text_and_image_to_image*",),
        ),
    },
    unverified="the names of its fields",
)

open_source = LAYOUT.open_source
