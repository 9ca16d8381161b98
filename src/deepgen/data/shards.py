"""Shards: uncompressed tars in WebDataset form, each with a Parquet index beside it.

An index row states the byte range of each of its images, so a tar is never scanned.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tarfile import BLOCKSIZE, RECORDSIZE, USTAR_FORMAT, TarInfo
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from deepgen.data.records import ImageRef, Record, to_table
from deepgen.errors import DataError, ImageError
from deepgen.reading import open_regular, parse_json

PROGRESS_KEY = b"deepgen.progress"
"""Parquet metadata key of the import's progress."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """State of an import when a shard was finished; all that resuming it needs."""

    rows: int = 0
    """Rows of the source processed so far, usable or not."""
    samples: int = 0
    """Usable ones among them."""
    quarantine_bytes: int = 0
    """Length of the quarantine file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredImage:
    """A decoded and checked image, ready to be written into a shard."""

    data: bytes
    format: str
    width: int
    height: int
    exif_orientation: int
    mode: str
    hash: str

    def placed(self, shard: str, offset: int) -> ImageRef:
        """A reference to the image at its place in a shard."""
        return ImageRef(
            shard=shard,
            offset=offset,
            length=len(self.data),
            format=self.format,
            width=self.width,
            height=self.height,
            exif_orientation=self.exif_orientation,
            mode=self.mode,
            hash=self.hash,
        )


class ShardWriter:
    """Writes one shard. It and its index get their final names at :meth:`commit`, or never.

    A member is named ``<number>.jpg`` or ``<number>.reference0.png``, ``<number>.txt`` holds the
    first prompt and ``<number>.json`` all of them: for readers that know nothing of the index.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = f"{name}.tar"
        self.records: list[Record] = []
        self.size = 0
        self._part = folder / f"{self.name}.part"
        self._index = (folder / self.name).with_suffix(".parquet")
        self._index_part = self._index.with_name(f"{self._index.name}.part")
        self._file = self._part.open("wb")

    def add_image(self, key: str, image: StoredImage, *, role: str = "") -> ImageRef:
        """Append an image; returns where it is."""
        suffix = "jpg" if image.format in ("JPEG", "MPO") else image.format.lower()
        member = ".".join(part for part in (key, role, suffix) if part)
        return image.placed(self.name, self._append(member, image.data))

    def add_record(self, key: str, record: Record) -> None:
        """Append the texts of a sample after its images, and add its row to the index."""
        self._append(f"{key}.txt", record.prompts[0].text.encode())
        texts = record.model_dump(include={"sample_id", "task", "prompts", "reasoning"})
        self._append(f"{key}.json", json.dumps(texts, ensure_ascii=False).encode())
        self.records.append(record)

    def commit(self, progress: Progress) -> None:
        """Rename the shard and then its index; a shard without an index does not count."""
        # The end of a tar: two empty blocks, padded to a whole record.
        self._write(bytes(2 * BLOCKSIZE))
        self._write(bytes(-self.size % RECORDSIZE))
        _close_durably(self._file)
        table = to_table(self.records).replace_schema_metadata(
            {PROGRESS_KEY: json.dumps(asdict(progress)).encode()}
        )
        with self._index_part.open("wb") as file:
            pq.write_table(table, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        self._part.replace(self.folder / self.name)
        self._index_part.replace(self._index)
        sync_folder(self.folder)

    def abandon(self) -> None:
        """Remove the unfinished files."""
        # Closing flushes, which fails on a full disk.
        with suppress(OSError):
            self._file.close()
        self._part.unlink(missing_ok=True)
        self._index_part.unlink(missing_ok=True)

    def _append(self, member: str, data: bytes) -> int:
        """Write a member; returns the offset of its data."""
        header = TarInfo(member)
        header.size = len(data)
        self._write(header.tobuf(USTAR_FORMAT))
        offset = self.size
        self._write(data)
        self._write(bytes(-len(data) % BLOCKSIZE))
        return offset

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self.size += len(data)


def committed_indexes(folder: Path) -> list[Path]:
    """The indexes of all finished shards, in order."""
    return sorted(folder.glob("*.parquet"))


def read_progress(index: Path) -> Progress:
    """The state of the import when this index was written.

    Raises:
        DataError: The file is not an index of a shard.
    """
    try:
        metadata = pq.read_schema(index).metadata or {}
        return Progress(**parse_json(metadata[PROGRESS_KEY]))
    except (pa.ArrowInvalid, OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{index} is not an index of a shard ({error}); delete it with its tar and import again"
        ) from None


def read_bytes(folder: Path, image: ImageRef) -> bytes:
    """The bytes of an image: one seek, one read.

    Raises:
        ImageError: The shard ends before the image does.
        OSError: The shard cannot be read.
    """
    with open_regular(folder / image.shard) as file:
        # Compared before it is read: memory is taken for as many bytes as the index states.
        is_inside = image.offset + image.length <= os.fstat(file.fileno()).st_size
        data = b""
        if is_inside:
            file.seek(image.offset)
            data = file.read(image.length)
    if len(data) != image.length:
        raise ImageError(
            f"{folder / image.shard} ends before the image at byte {image.offset} does; "
            "copy it again, or import again"
        )
    return data


def write_atomically(path: Path, chunks: Sequence[bytes]) -> None:
    """Write a file under its final name only when it is complete."""
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
            _close_durably(file)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)


def _close_durably(file: BinaryIO) -> None:
    """Close a file after its content has reached the disk."""
    file.flush()
    os.fsync(file.fileno())
    file.close()


def sync_folder(folder: Path) -> None:
    """Make new names survive a loss of power, where folders can be opened (not on Windows)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
