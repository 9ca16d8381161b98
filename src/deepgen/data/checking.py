"""Checking that a data set is unchanged since its import."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow.parquet as pq

from deepgen.data.dataset import DataSet, identity_of
from deepgen.data.records import ImageRef, content_hash
from deepgen.data.shards import committed_indexes
from deepgen.errors import DataError, ImageError
from deepgen.images.io import decode_image
from deepgen.threads import bounded_map


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """A difference to what was imported."""

    sample_id: str
    """Empty where the problem does not belong to a single sample."""
    reason: str
    message: str

    @property
    def is_replaceable(self) -> bool:
        """Whether training replaces it by another sample; lost shards and indexes stop it."""
        return bool(self.sample_id) and self.reason != "io"


def problems_of(
    data: DataSet, *, workers: int | None = None, watch: Callable[[], None] = lambda: None
) -> Iterator[Problem]:
    """Read every byte and decode every image; yields problems in the order of the rows.

    Images are decoded on as many threads as ``workers``, by default one per core, at most eight.
    ``watch`` is called after each row.
    """
    yield from _of_indexes(data)
    workers = workers or min(os.cpu_count() or 1, 8)
    for problems in bounded_map(lambda row: _of_row(data, row), range(len(data)), workers=workers):
        yield from problems
        watch()


def _of_indexes(data: DataSet) -> Iterator[Problem]:
    """Compare the Parquet files with the manifest and with the rows in memory."""
    indexes = committed_indexes(data.folder)
    if identity_of(data.folder) != data.manifest.identity:
        message = "an index beside a shard was changed, lost or added since the import"
        yield Problem(sample_id="", reason="index", message=message)
    rows = 0
    for index in indexes:
        try:
            rows += pq.read_metadata(index).num_rows
        except (OSError, ValueError) as error:
            yield Problem(sample_id="", reason="index", message=f"{index.name}: {error}")
    if rows != len(data):
        message = f"the shards hold {rows} samples, index.arrow {len(data)}; delete the latter"
        yield Problem(sample_id="", reason="index", message=message)


def _of_row(data: DataSet, row: int) -> list[Problem]:
    try:
        record = data.record(row)
    except DataError as error:
        return [Problem(sample_id="", reason="row", message=str(error))]
    return [
        Problem(sample_id=record.sample_id, reason=reason, message=message)
        for image in record.images
        for reason, message in _of_image(data, image)
    ]


def _of_image(data: DataSet, image: ImageRef) -> Iterator[tuple[str, str]]:
    name = f"the image at byte {image.offset} of {image.shard}"
    try:
        content = data.read(image)
        if content_hash(content) != image.hash:
            yield "hash_mismatch", f"{name} has changed since its import"
            return
        width, height = decode_image(content, name=name).size
    except ImageError as error:
        yield error.reason, str(error)
        return
    except OSError as error:
        yield "io", f"{image.shard} cannot be read ({error.strerror})"
        return
    if (width, height) != (image.width, image.height):
        found, wanted = f"{width} x {height}", f"{image.width} x {image.height}"
        yield "size", f"{name} is {found}, its row says {wanted}"
