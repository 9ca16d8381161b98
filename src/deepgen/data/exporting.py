"""Data sets in the forms that other programs read; the importer ``exported`` takes each back.

- ``webdataset``: tars of ``KEY.jpg``, ``KEY.reference0.png``, ``KEY.txt`` (the first prompt) and
  ``KEY.json`` (all texts and facts);
- ``parquet``: rows with the bytes of their images, in columns that ``datasets`` shows as images;
- ``folder``: image files and a ``metadata.jsonl``, as ``datasets`` reads with ``imagefolder``.

Images keep their bytes.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tarfile import USTAR_FORMAT, TarFile, TarInfo
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from deepgen.data.dataset import DataSet
from deepgen.data.records import SCHEMA, ImageRef, Record, Split, Task
from deepgen.errors import DataError
from deepgen.locks import locked

ExportFormat = Literal["webdataset", "parquet", "folder"]

FORMATS: tuple[ExportFormat, ...] = get_args(ExportFormat)

Restricted = Literal["refuse", "include", "skip"]

FACTS = (
    *("sample_id", "source", "source_rev", "task", "skills", "prompts", "reasoning"),
    *("render_text", "licence", "redistributable", "split"),
)
"""Fields of a record that say nothing of where its images are."""

METADATA = "metadata.jsonl"

IMAGES = "images"

LINE_BREAK = re.compile("[\x85\u2028\u2029]")
"""What some readers of JSON Lines take for the end of a line; within texts JSON can escape it."""

ROW_GROUP_BYTES = 64 << 20
"""Bytes of images per row group: what a reader of Parquet has in memory at once."""

IMAGE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
"""How ``datasets`` stores an image."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportOptions:
    """What is exported, and how."""

    format: ExportFormat
    task: Task | None = None
    split: Split | None = None
    licences: tuple[str, ...] = ()
    """Only samples with one of these; empty means any."""
    restricted: Restricted = "refuse"
    """What to do about samples that may not be redistributed."""
    shard_bytes: int = 512 << 20
    """Size at which a tar or a Parquet file ends."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportReport:
    """What was written."""

    samples: int
    left_out: dict[str, int]
    """By what left them out: an option of this name, or ``mixture``."""
    files: int
    bytes: int


def export(
    data: DataSet,
    folder: Path,
    options: ExportOptions,
    *,
    excluded: npt.NDArray[np.bool_] | None = None,
    watch: Callable[[], None] = lambda: None,
) -> ExportReport:
    """Write a data set, or a part of it, in another form.

    Args:
        folder: A new or empty folder; it appears when all is written.
        excluded: Rows to leave out, one value per row.
        watch: Called after each sample.

    Raises:
        DataError: The folder is not empty, nothing is chosen, an image is damaged, or some samples
            may not be redistributed and ``restricted`` does not say what to do.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} exists and is not an empty folder; choose a new one")
    rows, left_out = _chosen(data, options, excluded)
    part = folder.parent / f".{folder.name}.part"
    with locked(folder, beside=True):
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        try:
            samples, name = _samples(data, rows, watch), data.manifest.name
            if options.format == "webdataset":
                _write_tars(samples, part, name, options.shard_bytes)
            elif options.format == "parquet":
                _write_parquet(samples, part, name, options.shard_bytes)
            else:
                has_edits = pc.any(pc.equal(data.table["task"].take(rows), "edit")).as_py()
                _write_folder(samples, part, has_edits=has_edits)
            if folder.exists():
                folder.rmdir()
            part.replace(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    files = [each for each in folder.rglob("*") if each.is_file()]
    size = sum(each.stat().st_size for each in files)
    return ExportReport(samples=len(rows), left_out=left_out, files=len(files), bytes=size)


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """A sample with the names and bytes of its images."""

    key: str
    record: Record
    images: dict[str, bytes]
    """By file name: the target, the references in order, the negative target."""

    @property
    def facts(self) -> dict[str, Any]:
        """All of the record but where its images are."""
        facts = self.record.model_dump(include=set(FACTS))
        return {**facts, "urls": [each.url for each in _images(self.record)]}


def _chosen(
    data: DataSet, options: ExportOptions, excluded: npt.NDArray[np.bool_] | None
) -> tuple[npt.NDArray[np.int64], dict[str, int]]:
    """Rows that are exported, and how many each option leaves out."""
    table = data.table
    kept = np.ones(len(data), dtype=bool)
    left_out: dict[str, int] = {}

    def keep(name: str, wanted: npt.NDArray[np.bool_]) -> None:
        nonlocal kept
        count = int((kept & ~wanted).sum())
        if count:
            left_out[name] = count
        kept = kept & wanted

    # A mixture may use only some of the rows of its members.
    keep("mixture", data.used)
    for name in ("task", "split"):
        value = getattr(options, name)
        if value is not None:
            keep(name, pc.equal(table[name], value).to_numpy())
    if options.licences:
        allowed = pc.is_in(table["licence"], value_set=pa.array(options.licences))
        keep("licences", allowed.to_numpy())
    if excluded is not None:
        keep("exclude", ~excluded)
    may = table["redistributable"].to_numpy().astype(bool)
    if options.restricted == "skip":
        keep("restricted", may)
    restricted = int((kept & ~may).sum())
    if restricted and options.restricted == "refuse":
        raise DataError(
            f"{restricted:,} of {int(kept.sum()):,} samples are not marked as redistributable; "
            "--restricted skip leaves them out, --restricted include exports them for your own use"
        )
    if not kept.any():
        reasons = ", ".join(left_out_by(left_out))
        raise DataError(
            f"none of the {len(data):,} samples of {data.folder} is left to export ({reasons}); "
            "choose fewer conditions"
        )
    return np.flatnonzero(kept), left_out


def left_out_by(counts: Mapping[str, int]) -> list[str]:
    """What left how many samples out, in words, such as "left out by --task: 3"."""
    return [
        f"left out by {'the mixture' if name == 'mixture' else f'--{name}'}: {count:,}"
        for name, count in counts.items()
    ]


def _images(record: Record) -> list[ImageRef]:
    negative = [] if record.negative_target is None else [record.negative_target]
    return [*record.images, *negative]


def _samples(
    data: DataSet, rows: npt.NDArray[np.int64], watch: Callable[[], None]
) -> Iterator[Exported]:
    for number, row in enumerate(rows.tolist()):
        record = data.record(row)
        key = f"{number:09d}"
        roles = ["", *(f"reference{place}" for place in range(len(record.references)))]
        roles += ["negative"] if record.negative_target is not None else []
        images = {
            ".".join(part for part in (key, role, _suffix(each)) if part): data.read(each)
            for role, each in zip(roles, _images(record), strict=True)
        }
        yield Exported(key=key, record=record, images=images)
        watch()


def _suffix(image: ImageRef) -> str:
    return "jpg" if image.format in ("JPEG", "MPO") else image.format.lower()


def _write_tars(samples: Iterator[Exported], folder: Path, name: str, shard_bytes: int) -> None:
    archive: TarFile | None = None
    count = 0
    try:
        for each in samples:
            if archive is None:
                path = folder / f"{name}-{count:06d}.tar"
                archive = TarFile(path, "w", format=USTAR_FORMAT)
                count += 1
            text = each.record.prompts[0].text.encode()
            facts = json.dumps(each.facts, ensure_ascii=False).encode()
            members = {**each.images, f"{each.key}.txt": text, f"{each.key}.json": facts}
            for member, content in members.items():
                header = TarInfo(member)
                header.size = len(content)
                archive.addfile(header, BytesIO(content))
            if archive.offset >= shard_bytes:
                archive.close()
                archive = None
    finally:
        if archive is not None:
            archive.close()


def _write_folder(samples: Iterator[Exported], folder: Path, *, has_edits: bool) -> None:
    (folder / IMAGES).mkdir()
    with (folder / METADATA).open("w", encoding="utf-8") as file:
        for each in samples:
            for member, content in each.images.items():
                (folder / IMAGES / member).write_bytes(content)
            paths = [f"{IMAGES}/{member}" for member in each.images]
            has_negative = each.record.negative_target is not None
            # Names that end so are read as images by ``datasets``.
            row: dict[str, Any] = {"file_name": paths[0], "text": each.record.prompts[0].text}
            row |= {"references_file_names": paths[1 : len(each.record.references) + 1]}
            row |= {"negative_file_name": paths[-1]} if has_negative else {}
            row |= each.facts
            if not any(row["urls"]):
                del row["urls"]
            # ``datasets`` stumbles over columns that have only empty lists, and over lists of
            # images that are missing in some rows.
            must = {"references_file_names"} if has_edits else set()
            kept = {
                key: value for key, value in row.items() if key in must or value not in (None, [])
            }
            line = json.dumps(kept, ensure_ascii=False)
            file.write(LINE_BREAK.sub(lambda found: f"\\u{ord(found[0]):04x}", line) + "\n")


def _write_parquet(samples: Iterator[Exported], folder: Path, name: str, shard_bytes: int) -> None:
    """Files of rows, each of row groups that fit in memory."""
    schema = parquet_schema()
    writer: pq.ParquetWriter | None = None
    rows: list[dict[str, Any]] = []
    count = size = pending = 0

    def flush() -> None:
        nonlocal rows, pending
        if rows and writer is not None:
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
        rows, pending = [], 0

    try:
        for each in samples:
            if writer is None:
                path = folder / f"{name}-{count:05d}.parquet"
                # Images are compressed already.
                writer = pq.ParquetWriter(path, schema, compression="zstd")
                count += 1
            rows.append(_parquet_row(each))
            added = sum(map(len, each.images.values()))
            pending, size = pending + added, size + added
            if pending >= ROW_GROUP_BYTES or size >= shard_bytes:
                flush()
            if size >= shard_bytes:
                writer.close()
                writer, size = None, 0
        flush()
    finally:
        if writer is not None:
            writer.close()


def _parquet_row(each: Exported) -> dict[str, Any]:
    images: Sequence[dict[str, Any]] = [
        {"bytes": content, "path": name} for name, content in each.images.items()
    ]
    has_negative = each.record.negative_target is not None
    return {
        "image": images[0],
        "text": each.record.prompts[0].text,
        "references": images[1 : len(each.record.references) + 1],
        "negative": images[-1] if has_negative else None,
        **each.facts,
    }


def parquet_schema() -> pa.Schema:
    """The columns of exported Parquet files, with what ``datasets`` has to know of them."""
    facts = [SCHEMA.field(name) for name in FACTS]
    columns = [
        pa.field("image", IMAGE_TYPE),
        pa.field("text", pa.string()),
        pa.field("references", pa.list_(IMAGE_TYPE)),
        pa.field("negative", IMAGE_TYPE),
        *facts,
        pa.field("urls", pa.list_(pa.string())),
    ]
    features = {each.name: _feature(each.type) for each in columns}
    information = json.dumps({"info": {"features": features}})
    return pa.schema(columns, metadata={"huggingface": information})


def _feature(kind: pa.DataType) -> Any:
    """A column's type as ``datasets`` writes it."""
    if kind == IMAGE_TYPE:
        return {"_type": "Image"}
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "List"}
    if pa.types.is_struct(kind):
        return {each.name: _feature(each.type) for each in kind}
    return {"dtype": str(kind).replace("double", "float64"), "_type": "Value"}
