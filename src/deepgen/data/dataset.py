"""A folder of shards, opened: rows by number, images by one seek, sizes without decoding.

``dataset.json``, the manifest, states what was imported and whether that is complete.
``index.arrow`` holds the rows of all Parquet indexes in a memory-mapped form, so that all processes
share one copy; if deleted, it is written again.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import ValidationError

from deepgen.config.decoding import decode
from deepgen.config.sizes import Size, fix_pixels
from deepgen.data.order import EpochOrder
from deepgen.data.records import SCHEMA, TASKS, ImageRef, Record, Split, Task, content_hash
from deepgen.data.shards import committed_indexes, read_bytes, write_atomically
from deepgen.errors import DataError
from deepgen.reading import parse_json, read_json

MANIFEST = "dataset.json"

INDEX = "index.arrow"

QUARANTINE = "quarantine.jsonl"
"""One line per row that could not be used: sample_id, reason, message."""

FORMAT = 1
"""Version of the folder's format; raised when older readers would misread it."""

INDEX_ROWS = 4096
"""Rows per batch of the memory-mapped index: the granularity of reads."""

BucketKey = tuple[Size, tuple[Size, ...]]
"""(height, width) of the target and of each reference after resizing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSetManifest:
    """What ``dataset.json`` states about a data set."""

    name: str
    revision: str
    """Hash of the imported source, with the modification times of its images."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of the import."""
    complete: bool = False
    unusable: bool = False
    """Whether the import read its whole source and could use no row of it."""
    identity: str = ""
    """Hash of all rows; equal data sets give equal orders of samples."""
    format: int = FORMAT

    def write(self, folder: Path) -> None:
        """Write the file atomically."""
        text = json.dumps(asdict(self), indent=2) + "\n"
        write_atomically(folder / MANIFEST, [text.encode()])

    def finished(self, folder: Path) -> None:
        """Mark the import as complete."""
        replace(self, complete=True, identity=identity_of(folder)).write(folder)


def read_manifest(folder: Path) -> DataSetManifest | None:
    """The manifest of a folder, or None if it is not a data set.

    Raises:
        DataError: It cannot be read, or has another format.
    """
    path = folder / MANIFEST
    try:
        found = decode(DataSetManifest, read_json(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); import again") from None
    if found.format != FORMAT:
        raise DataError(f"{path} has format {found.format}, expected {FORMAT}; import again")
    return found


def read_quarantine(folder: Path) -> Iterator[dict[str, str]]:
    """The rows that could not be used, in the order of the source."""
    with (folder / QUARANTINE).open(encoding="utf-8") as file:
        for line in file:
            yield parse_json(line)


def nothing_usable(folder: Path) -> str:
    """Why an import that read its whole source has no samples, in one line."""
    first = next(read_quarantine(folder), None)
    if first is None:
        return (
            f"the source imported into {folder} has no rows; expected images with captions, or a "
            "table of them"
        )
    reasons = Counter(each["reason"] for each in read_quarantine(folder))
    counts = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
    return (
        f"{folder} has no samples: none of {reasons.total()} rows can be used ({counts}); the "
        f"first, {first['sample_id']}: {first['message']}; every reason is in "
        f"{folder / QUARANTINE}. Correct the source or the options and import again"
    )


def identity_of(folder: Path) -> str:
    """Hash of the Parquet indexes, which hold the hashes of all images."""
    digest = blake2b(digest_size=16)
    for index in committed_indexes(folder):
        digest.update(content_hash(index.read_bytes()).encode())
    return digest.hexdigest()


def build_index(folder: Path) -> None:
    """Write the memory-mapped index from the Parquet ones."""
    # Several processes may find it missing at the same time.
    part = folder / f"{INDEX}.{os.getpid()}.part"
    try:
        with pa.OSFile(str(part), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
            for index in committed_indexes(folder):
                table = pq.read_table(index).cast(SCHEMA)
                writer.write_table(table, max_chunksize=INDEX_ROWS)
        part.replace(folder / INDEX)
    finally:
        part.unlink(missing_ok=True)


class DataSet:
    """A complete data set; use :meth:`open`."""

    def __init__(self, folder: Path, manifest: DataSetManifest, table: pa.Table) -> None:
        self.folder = folder
        self.manifest = manifest
        self.table = table
        """All rows as columns, mapped into memory."""
        lengths = [chunk.num_rows for chunk in table.to_batches()]
        self._batches = table.to_batches()
        self._starts = np.cumsum([0, *lengths])

    @classmethod
    def open(cls, folder: Path) -> DataSet:
        """Open the data set in a folder.

        Raises:
            DataError: There is none, or its import was interrupted or found no sample.
        """
        manifest = read_manifest(folder) if folder.is_dir() else None
        if manifest is None:
            raise DataError(f"{folder} is not a data set; create one with deepgen data import")
        if manifest.unusable:
            raise DataError(nothing_usable(folder))
        # The import itself writes the index just before it marks the manifest as complete.
        if not manifest.complete:
            raise DataError(f"the import into {folder} was interrupted; run it again to finish it")
        path = folder / INDEX
        if not path.exists():
            build_index(folder)
        try:
            with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
                table = reader.read_all()
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(
                f"{path} is damaged ({error}); delete it, and it is written again"
            ) from None
        return cls(folder, manifest, table)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def tasks(self) -> list[Task]:
        """Those that occur, in their order within a step."""
        found = set(pc.unique(self.table["task"]).to_pylist())
        return [task for task in TASKS if task in found]

    def record(self, row: int) -> Record:
        """The record of a row.

        Raises:
            DataError: The index holds something else.
        """
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of a data set of {len(self)}")
        batch = int(np.searchsorted(self._starts, row, side="right")) - 1
        values = self._batches[batch].slice(row - int(self._starts[batch]), 1).to_pylist()[0]
        try:
            return Record.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(each) for each in first["loc"])
            raise DataError(f"row {row} of {self.folder}: {place} {first['msg']}") from None

    def rows(
        self, *, task: Task | None = None, split: Split | None = None
    ) -> npt.NDArray[np.int64]:
        """Row numbers of a task and a split, ascending."""
        chosen = np.ones(len(self), dtype=bool)
        for column, value in (("task", task), ("split", split)):
            if value is not None:
                chosen &= pc.equal(self.table[column], value).to_numpy()
        return np.flatnonzero(chosen)

    @property
    def used(self) -> npt.NDArray[np.bool_]:
        """For each row whether it is used; a mixture may leave out some."""
        found = np.zeros(len(self), dtype=bool)
        found[self.rows()] = True
        return found

    @property
    def parts(self) -> list[tuple[DataSet, int]]:
        """The data sets that this one is made of, with the numbers of their first rows."""
        return [(self, 0)]

    def order(self, rows: npt.NDArray[np.int64], *, seed: int, task: Task) -> EpochOrder:
        """The endless order in which training sees some rows of a task."""
        return EpochOrder(rows, seed=seed, name=task)

    def read(self, image: ImageRef) -> bytes:
        """The bytes of an image, unchanged from the user's file.

        Raises:
            ImageError: The shard ends too early.
            OSError: The shard cannot be read.
        """
        return read_bytes(self.folder, image)

    def bucket_keys(self, side: int) -> tuple[list[BucketKey], npt.NDArray[np.int32]]:
        """Which samples may share a batch without padding: those of equal sizes throughout.

        Sizes are those after resizing to about ``side * side`` pixels.

        Returns:
            The keys, and for each row the number of its key.
        """
        # Batch by batch: combined columns would no longer be shared between processes.
        lists = [batch.column("references") for batch in self._batches]
        targets = np.concatenate(
            [_size_codes(each.column("target"), side) for each in self._batches]
        )
        references = np.concatenate([_size_codes(each.flatten(), side) for each in lists])
        counts = np.concatenate([pc.list_value_length(each).to_numpy() for each in lists])
        firsts = np.cumsum(counts) - counts
        found: list[BucketKey] = []
        numbers = np.empty(len(self), dtype=np.int32)
        for count in np.unique(counts).tolist():
            rows = np.flatnonzero(counts == count)
            places = firsts[rows, None] + np.arange(count)
            codes = np.column_stack([targets[rows], references[places]])
            distinct, inverse = np.unique(codes, axis=0, return_inverse=True)
            numbers[rows] = len(found) + inverse.reshape(-1)
            for target, *others in distinct.tolist():
                found.append((_size(target), tuple(map(_size, others))))
        return found, numbers


def _size_codes(images: pa.StructArray, side: int) -> npt.NDArray[np.int64]:
    """The size of each image after resizing, as one integer, so that arrays can hold it."""
    heights = pc.struct_field(images, "height").to_numpy().astype(np.int64)
    widths = pc.struct_field(images, "width").to_numpy().astype(np.int64)
    distinct, inverse = np.unique(heights << 32 | widths, return_inverse=True)
    codes = np.array([_fitted(each, side) for each in distinct.tolist()], dtype=np.int64)
    return codes[inverse.reshape(-1)]


# Most data sets have few sizes, and the rule is plain Python.
@lru_cache(maxsize=1 << 16)
def _fitted(code: int, side: int) -> int:
    height, width = fix_pixels(*_size(code), side)
    return height << 32 | width


def _size(code: int) -> Size:
    return code >> 32, code & 0xFFFFFFFF
