"""UniReason: text-to-image and edits with an explicit chain of thought."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from deepgen.data.importers.fields import Fields, Locate, read_fields
from deepgen.data.importers.published import Layout, Part
from deepgen.data.importers.source import EXCLUDED, BadRow, BadSampleError, RawSample

# The capital letter is the publisher's.
GENERATION = Fields(
    target=("image_path",), texts={"txt": None}, reasoning=("Reasoning",), skills=("reasoning",)
)
EDITING = Fields(
    target=("output_image",),
    texts={"instruction": "instruction"},
    references=("input_image",),
    reasoning=("reasoning",),
    skills=("reasoning",),
)
ANY = Fields(target=("image_path", "output_image"), texts={"txt": None, "instruction": None})

TRAJECTORY = ("Text Reasoning Trace", "img_path")
"""Fields of refinement trajectories, another kind of data in the same release."""

Read = Callable[[Mapping[str, Any], str, Locate], Iterable[RawSample | BadRow]]


def reader(wanted: str) -> Read:
    """A reader of the samples of one task, or of both."""

    def read(
        row: Mapping[str, Any], native_id: str, locate: Locate
    ) -> Iterator[RawSample | BadRow]:
        if any(each in row for each in TRAJECTORY):
            raise BadSampleError(EXCLUDED, "a refinement trajectory, which is not imported")
        is_edit = "instruction" in row or "output_image" in row
        if wanted not in ("all", "editing" if is_edit else "generation"):
            raise BadSampleError(EXCLUDED, f"no row of part {wanted}")
        yield read_fields(row, EDITING if is_edit else GENERATION, native_id, locate)

    return read


TABLES = ("**/*.json", "**/*.jsonl", "**/*.parquet")

LAYOUT = Layout(
    title="UniReason",
    home="Alex11556666/Reason_Tuning",
    parts={
        "all": Part(fields=ANY, tables=TABLES, read=reader("all")),
        "generation": Part(
            fields=GENERATION, tables=TABLES, read=reader("generation"), is_default=False
        ),
        "editing": Part(fields=EDITING, tables=TABLES, read=reader("editing"), is_default=False),
    },
    unverified="the names and places of its files; its fields are known",
)

open_source = LAYOUT.open_source
