"""Pico-Banana-400k: edits of photographs that must be fetched from their addresses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from deepgen.data.importers.fields import Fields, Locate, located, prompts_of
from deepgen.data.importers.published import Layout, Part
from deepgen.data.importers.source import (
    BadRow,
    BadSampleError,
    ImageSource,
    RawSample,
    as_list,
    check_whole,
    first_of,
)

FIELDS = Fields(
    target=("output_image",),
    references=("local_input_image", "open_image_input_url"),
    texts={"text": "instruction", "summarized_text": "instruction_short"},
)

ORIGINAL = "original_input_image"
FINAL = "final_image"


def source_of(row: Mapping[str, Any], locate: Locate) -> ImageSource:
    """The photograph: the file that the publisher's script mapped, or the download of its address.

    Raises:
        BadSampleError: Neither is stated.
    """
    local = first_of(row, ("local_input_image",))
    if local is not None:
        return located(local, locate)
    return downloaded(first_of(row, ("open_image_input_url", "url")), locate)


def downloaded(url: object, locate: Locate) -> ImageSource:
    """The local copy of an address, named as its last part.

    Raises:
        BadSampleError: There is none.
    """
    name = PurePosixPath(urlsplit(str(url)).path).name if url else ""
    if not name:
        raise BadSampleError("missing", f"no source image, but {str(url)[:80]!r}")
    return located(name, locate)


def read(row: Mapping[str, Any], native_id: str, locate: Locate) -> Iterator[RawSample | BadRow]:
    """A single edit."""
    output = first_of(row, FIELDS.target)
    if output is None:
        raise BadSampleError("missing", "no target under output_image")
    sample = RawSample(
        native_id=native_id,
        prompts=prompts_of(row, FIELDS, is_edit=True),
        target=located(output, locate),
        references=(source_of(row, locate),),
        skills=_skills(row),
    )
    check_whole(sample)
    yield sample


def read_turns(
    row: Mapping[str, Any], native_id: str, locate: Locate
) -> Iterator[RawSample | BadRow]:
    """One sample for each turn: from the image before it to the image after it."""
    files = {
        str(each.get("id")): each for each in as_list(row.get("files")) if isinstance(each, dict)
    }
    texts = as_list(row.get("metadata_edit_turn_prompts"))
    if not texts or ORIGINAL not in files:
        raise BadSampleError("missing", f"no turns or no {ORIGINAL} in files")
    for turn, text in enumerate(texts, 1):
        own = f"{native_id}.{turn}"
        try:
            before = files.get(ORIGINAL if turn == 1 else f"edit_turn{turn - 1}")
            after = files.get(f"edit_turn{turn}") or (
                files.get(FINAL) if turn == len(texts) else None
            )
            if before is None or after is None:
                raise BadSampleError("missing", f"no image before or after turn {turn}")
            reference = (
                source_of(before, locate) if turn == 1 else located(before.get("url"), locate)
            )
            sample = RawSample(
                native_id=own,
                prompts=prompts_of({"text": text}, FIELDS, is_edit=True),
                target=located(after.get("url"), locate),
                references=(reference,),
            )
            check_whole(sample)
            yield sample
        except BadSampleError as error:
            yield BadRow(native_id=own, reason=error.reason, message=str(error))


def _skills(row: Mapping[str, Any]) -> tuple[str, ...]:
    kind = row.get("edit_type")
    return ("general", kind) if isinstance(kind, str) and kind else ("general",)


LAYOUT = Layout(
    title="Pico-Banana-400k",
    home="github.com/apple/pico-banana-400k",
    parts={
        "sft": Part(fields=FIELDS, tables=("sft*.jsonl", "**/sft*.jsonl"), read=read),
        "multi_turn": Part(
            fields=Fields(target=("files",), texts={"metadata_edit_turn_prompts": None}),
            tables=("multi-turn*.jsonl", "**/multi-turn*.jsonl"),
            read=read_turns,
        ),
    },
    licence="CC-BY-NC-ND-4.0",
    advice=(
        "the sources are addresses: put the downloads, named as the last part of their address, "
        "into the folder of the tables or into that of --images; the preference pairs, which "
        "stages 1 and 2 do not use, are not read",
        "no derivatives may be published, so no shards or caches of it either",
    ),
)

open_source = LAYOUT.open_source
