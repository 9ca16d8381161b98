"""Megalith-10M: images and captions in separate tars, joined by path."""

from __future__ import annotations

from deepgen.data.importers.fields import Fields
from deepgen.data.importers.published import Layout, Part
from deepgen.data.importers.tar_samples import JOINED

LAYOUT = Layout(
    title="Megalith-10M",
    home="images drawthingsai/megalith-10m, captions wusize/megalith-10m",
    parts={
        "captions": Part(
            fields=Fields(
                target=(JOINED,),
                texts={
                    "caption_internlm2_short": "caption_short",
                    "caption_internlm2": "caption_long",
                    "caption_sharecaptioner": "caption_long",
                    "caption_florence2": "caption_long",
                    "caption_internvl2": "caption_long",
                },
            ),
            tars=("captions/**/*", "**/captions/**/*"),
            archives=("images/**/*", "**/images/**/*"),
            joined=True,
        )
    },
    licence="public domain, CC0 or no known copyright (Flickr)",
    unverified="the names of the other captions than caption_internlm2_short, and the paths that "
    "join captions to images",
    advice=(
        "put the archives of captions into captions/ and those of images into images/, in one "
        "folder; all captions of an image are kept as its prompts",
    ),
)

open_source = LAYOUT.open_source
