"""CC-12M: tars of image, text and JSON, or captions that are joined to them by path."""

from __future__ import annotations

from deepgen.data.importers.fields import Fields
from deepgen.data.importers.published import Layout, Part
from deepgen.data.importers.tar_samples import JOINED

LAYOUT = Layout(
    title="CC-12M",
    home="captions wusize/cc12m, images pixparse/cc12m-wds",
    parts={
        "recaptioned": Part(
            fields=Fields(target=(JOINED,), texts={"caption": None}),
            tars=("captions/**/*", "**/captions/**/*"),
            archives=("images/**/*", "**/images/**/*"),
            joined=True,
        ),
        "original": Part(
            fields=Fields(target=("jpg", "png", "webp"), texts={"txt": None, "caption": None}),
            tars=("*", "data/*"),
            is_default=False,
        ),
    },
    licence="conceptual-12m",
    unverified="the paths that join captions to images",
    advice=(
        "put captions/*.tar and the archives of images, in images/, into one folder; --part "
        "original reads cc12m-wds with its own short captions",
    ),
)

open_source = LAYOUT.open_source
