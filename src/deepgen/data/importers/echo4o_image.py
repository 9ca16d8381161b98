"""Echo-4o-Image: JSON Lines with absolute-looking paths, the images in gzip tars."""

from __future__ import annotations

from deepgen.data.importers.fields import Fields
from deepgen.data.importers.published import Layout, Part

IMAGES = ("output_image", "image_path", "image", "output")

LAYOUT = Layout(
    title="Echo-4o-Image",
    home="Yejy53/Echo-4o-Image",
    parts={
        "instruction": Part(
            fields=Fields(target=IMAGES, texts={"instruction": None}, absolute=True),
            tables=("Instruction-Following-Image/*.jsonl",),
            archives=("Instruction-Following-Image/**/*",),
            starts_at="table",
        ),
        "fantasy": Part(
            # The folder is spelled so.
            fields=Fields(target=IMAGES, texts={"instruction": None}, absolute=True),
            tables=("Surrel-Fantasy-Image/*.jsonl", "Surreal-Fantasy-Image/*.jsonl"),
            archives=("Surrel-Fantasy-Image/**/*", "Surreal-Fantasy-Image/**/*"),
            starts_at="table",
        ),
        "multi_reference": Part(
            fields=Fields(
                target=IMAGES,
                texts={"instruction": "instruction"},
                references=("input_images", "input_image"),
                skills=("general", "multi_ref"),
                absolute=True,
            ),
            tables=("Multi-Reference-Image/*.jsonl",),
            archives=("Multi-Reference-Image/**/*",),
            starts_at="table",
        ),
    },
    licence="MIT",
    redistributable=True,
    prefixes=("Echo-4o-Image",),
    unverified="the names of its files and fields, and the whole multi-reference part",
)

open_source = LAYOUT.open_source
