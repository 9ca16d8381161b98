"""LAION-Aesthetic recaptions: tars that img2dataset made of the published list of addresses."""

from __future__ import annotations

from deepgen.data.importers.fields import Fields
from deepgen.data.importers.published import Layout, Part

LAYOUT = Layout(
    title="LAION-Aesthetic-6M recaptions",
    home="wusize/laion6m_recap",
    parts={
        "images": Part(
            fields=Fields(
                target=("jpg", "png", "webp"),
                # The publisher's recipe and the public training configuration name different ones.
                texts={"re_caption": None, "caption": None},
                rivals=("re_caption", "caption"),
            ),
            tars=("**/*",),
        )
    },
    advice=(
        "the published tables hold addresses only: download them with img2dataset (WebDataset "
        "output, the caption among its additional columns) and name that folder; what it could "
        "not download is counted as dead_url",
    ),
)

open_source = LAYOUT.open_source
