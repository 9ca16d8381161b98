"""RedCaps-5M, resized: tars with images and JSON side by side."""

from __future__ import annotations

from deepgen.data.importers.fields import Fields
from deepgen.data.importers.published import Layout, Part

LAYOUT = Layout(
    title="RedCaps-5M",
    home="wusize/redcaps5m_resized",
    parts={
        "raw": Part(
            fields=Fields(target=("jpg", "jpeg", "png", "webp"), texts={"caption": None}),
            tars=("raw/**/*", "**/raw/**/*"),
        )
    },
    advice=("its images are user-generated: filter adult and personal content before training",),
)

open_source = LAYOUT.open_source
