"""text-to-image-2M: WebDataset tars with the caption under ``prompt``."""

from __future__ import annotations

from deepgen.data.importers.fields import Fields
from deepgen.data.importers.published import Layout, Part

FIELDS = Fields(target=("jpg", "png", "webp"), texts={"prompt": None})

LAYOUT = Layout(
    title="text-to-image-2M",
    home="jackyhate/text-to-image-2M",
    parts={
        "512": Part(fields=FIELDS, tars=("data_512_2M/*", "**/data_512_2M/*")),
        "1024": Part(fields=FIELDS, tars=("data_1024_10K/*", "**/data_1024_10K/*")),
    },
    licence="MIT",
    redistributable=True,
)

open_source = LAYOUT.open_source
