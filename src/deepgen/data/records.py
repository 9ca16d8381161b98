"""One training sample with its metadata: the row of every data set.

A row holds no images but where they are: the shard, the first byte and the length.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Annotated, Any, Literal, get_args, get_origin

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, model_validator

Task = Literal["t2i", "edit"]
"""Text-to-image, or editing with at least one reference image."""

TASKS: tuple[Task, ...] = ("edit", "t2i")
"""In their order within a step, on all processes."""

Split = Literal["train", "val"]

PromptKind = Literal[
    "caption_long",
    "caption_short",
    "instruction",
    "instruction_short",
    "instruction_rewritten",
    "instruction_complex",
]

LONG_CAPTION = 300
"""Characters; about the 77 tokens that CLIP text encoders read."""

UNKNOWN_LANGUAGE = "und"
"""The language tag (BCP 47) of a text whose language is not stated."""


COLUMN_TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
"""Column types of fields that state no other."""


class Row(BaseModel):
    """Base of all parts of a record: unknown or missing fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class PromptVariant(Row):
    """One of the prompts of a sample; one is drawn each epoch."""

    text: str
    kind: PromptKind
    lang: str = UNKNOWN_LANGUAGE
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """Probability of being drawn, relative to the other prompts of the sample."""


class ImageRef(Row):
    """Where the bytes of an image are, and what they decode to.

    The bytes are those of the user's file, unchanged.
    """

    shard: Annotated[str, Field(pattern=r"^[^/\\.][^/\\]*\.tar$")]
    """File name of the tar beside the index; no path, so it cannot point outside the folder."""
    offset: Annotated[int, Field(ge=0)]
    length: Annotated[int, Field(gt=0)]
    format: str
    """As Pillow calls it."""
    width: Annotated[int, Field(gt=0), pa.int32()]
    """After the EXIF orientation is applied; buckets never need to decode an image."""
    height: Annotated[int, Field(gt=0), pa.int32()]
    exif_orientation: Annotated[int, Field(ge=1, le=8), pa.int8()]
    mode: str
    """Pillow's name for the format of the stored pixels."""
    hash: str
    """BLAKE2b of the bytes, 128 bits, hexadecimal."""
    url: str | None = None
    """Where the image came from."""


class Record(Row):
    """One training sample: a target, its prompts and its references."""

    sample_id: str
    """``<source>/<native id>``: unique, and the same at every import."""
    sid: Annotated[int, Field(ge=0, lt=2**64), pa.uint64()]
    """64-bit hash of ``sample_id``, the key of its per-sample RNG."""
    source: str
    source_rev: str
    """Hash of what was imported: all texts, and names and sizes of all images."""
    task: Task
    skills: list[str]
    """For mixing and reports only."""
    prompts: Annotated[list[PromptVariant], Field(min_length=1)]
    reasoning: str | None = None
    """Chain of thought, where the source has one."""
    references: list[ImageRef]
    """In the order in which the prompt refers to them; empty for ``t2i``."""
    target: ImageRef
    negative_target: ImageRef | None = None
    """The rejected image of a pair in preference data."""
    render_text: list[str]
    """Texts that must be legible in the target."""
    licence: str
    redistributable: bool
    split: Split

    @model_validator(mode="after")
    def _consistent(self) -> Record:
        if (self.task == "edit") != bool(self.references):
            raise ValueError(f"task {self.task} with {len(self.references)} references")
        if self.sid != sid_of(self.sample_id):
            raise ValueError(f"sid {self.sid} does not belong to {self.sample_id!r}")
        return self

    @property
    def images(self) -> list[ImageRef]:
        """All images that training uses."""
        return [self.target, *self.references]


def sid_of(sample_id: str) -> int:
    """The 64-bit key of a sample."""
    return int.from_bytes(blake2b(sample_id.encode(), digest_size=8).digest(), "little")


def split_of(sid: int, val_fraction: float) -> Split:
    """The split of a sample; it does not change when the data set grows."""
    # Another hash than the key itself, from which the order of samples is derived.
    digest = blake2b(sid.to_bytes(8, "little"), digest_size=8, person=b"split").digest()
    return "val" if int.from_bytes(digest, "little") < val_fraction * 2**64 else "train"


def content_hash(data: bytes) -> str:
    """The hash that identifies images."""
    return blake2b(data, digest_size=16).hexdigest()


def _column(kind: Any) -> pa.DataType:
    """The type of the column that holds a field of some type."""
    if get_origin(kind) is list:
        return pa.list_(_column(get_args(kind)[0]))
    if get_origin(kind) is Literal:
        return pa.string()
    return COLUMN_TYPES[kind] if kind in COLUMN_TYPES else pa.struct(_columns(kind))


def _columns(row: type[Row]) -> list[pa.Field]:
    columns = []
    for name, field in row.model_fields.items():
        kind, is_optional = field.annotation, type(None) in get_args(field.annotation)
        if is_optional:
            kind = get_args(kind)[0]
        stated = [each for each in field.metadata if isinstance(each, pa.DataType)]
        column = stated[0] if stated else _column(kind)
        columns.append(pa.field(name, column, nullable=is_optional))
    return columns


SCHEMA: pa.Schema = pa.schema(_columns(Record))
"""The columns of an index; one row is one :class:`Record`."""


def to_table(records: list[Record]) -> pa.Table:
    """Records as columns."""
    rows: list[dict[str, Any]] = [record.model_dump() for record in records]
    return pa.Table.from_pylist(rows, schema=SCHEMA)
