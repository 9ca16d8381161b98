"""UniWorld-V1: conversations in the style of LLaVA, whose last image is the target."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from deepgen.data.importers.fields import Fields, Locate, located, prompts_of
from deepgen.data.importers.published import Layout, Part
from deepgen.data.importers.source import (
    EXCLUDED,
    BadRow,
    BadSampleError,
    RawSample,
    as_list,
    check_whole,
)

FIELDS = Fields(target=("image",), texts={"conversations": "instruction"})

MARKER = re.compile(r"\s*<image>\s*")

PERCEPTION = re.compile(
    r"(?:^|[/_.\-])(canny|depth|pose|openpose|hed|mlsd|sketch|segmentation|normal|det)"
    r"(?:[_.\-](?:data|pairs|\d+k?))*(?=/|$)",
    re.IGNORECASE,
)
"""Tables and folders of perception pairs, such as ``coco2017_canny_236574``: the signal ends their
name, but for a count. ``depth_of_field_edit`` and ``pose_change`` are edits."""


def is_perception(table: str) -> bool:
    """Whether a table is one of perception pairs, by its path without the suffix."""
    return PERCEPTION.search(table) is not None


def read(row: Mapping[str, Any], native_id: str, locate: Locate) -> Iterator[RawSample | BadRow]:
    """The edit of a row; perception pairs are left out."""
    if is_perception(native_id.rpartition("/")[0]):
        raise BadSampleError(EXCLUDED, "a perception pair; import it with --part perception")
    yield sample_of(row, native_id, locate, ("general",))


def read_perception(
    row: Mapping[str, Any], native_id: str, locate: Locate
) -> Iterator[RawSample | BadRow]:
    """The pair of a row, whatever it is."""
    yield sample_of(row, native_id, locate, ("perception",))


def sample_of(
    row: Mapping[str, Any], native_id: str, locate: Locate, skills: tuple[str, ...]
) -> RawSample:
    """The sample of a row.

    Raises:
        BadSampleError: It has fewer than two images, or no instruction.
    """
    images = as_list(row.get("image"))
    if len(images) < 2:
        raise BadSampleError("missing", f"{len(images)} images, expected references and a target")
    human = [
        MARKER.sub(" ", str(each.get("value") or "")).strip()
        for each in as_list(row.get("conversations"))
        if isinstance(each, Mapping) and each.get("from") == "human"
    ]
    text = "\n".join(each for each in human if each)
    found = [located(each, locate) for each in images]
    sample = RawSample(
        native_id=native_id,
        prompts=prompts_of({"conversations": text}, FIELDS, is_edit=True),
        target=found[-1],
        references=tuple(found[:-1]),
        skills=skills,
    )
    check_whole(sample)
    return sample


TABLES = ("*.json", "json/**/*.json", "annotations/**/*.json", "*/*.json")

LAYOUT = Layout(
    title="UniWorld-V1",
    home="LanguageBind/UniWorld-V1",
    parts={
        "edit": Part(fields=FIELDS, tables=TABLES, read=read, leaves_out=is_perception),
        "perception": Part(fields=FIELDS, tables=TABLES, read=read_perception, is_default=False),
    },
    advice=(
        "paths start from the image_root that the publisher's list states for each table: name it "
        "with --images, and import tables with different ones one by one",
        "tables whose name ends in canny, depth, pose and the like are left out",
    ),
)

open_source = LAYOUT.open_source
