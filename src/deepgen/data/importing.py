"""Importing: every image is decoded once; rows that cannot be used are quarantined with a reason.

An import may be killed at any moment. A rerun resumes after the last finished shard, and the result
is the same byte for byte as that of an uninterrupted import.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from deepgen.config.checks import check_at_least, check_below_one
from deepgen.data.dataset import (
    MANIFEST,
    QUARANTINE,
    DataSet,
    DataSetManifest,
    build_index,
    nothing_usable,
    read_manifest,
    read_quarantine,
)
from deepgen.data.importers.source import BadRow, BadSampleError, ImageSource, RawSample, Source
from deepgen.data.records import Record, content_hash, sid_of, split_of
from deepgen.data.shards import (
    Progress,
    ShardWriter,
    StoredImage,
    committed_indexes,
    read_progress,
)
from deepgen.errors import DataError, ImageError
from deepgen.images.io import open_image, read_file, to_rgb
from deepgen.locks import LOCK, locked
from deepgen.threads import bounded_map

ORIENTATION_TAG = 0x0112


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportOptions:
    """What an import accepts, and what it records about the samples."""

    name: str
    """Name of the source; the first part of every sample's id and of every shard's name."""
    licence: str = "unknown"
    redistributable: bool = False
    val_fraction: float = 0.0
    """Fraction of samples in the validation split, chosen by their ids."""
    min_side: int = 81
    """Pixels; the limit of the public implementation. Thumbnails teach blur."""
    max_aspect: int = 10
    """Longer side over shorter side, exclusive; beyond it buckets distort images."""
    max_references: int = 4
    shard_bytes: int = 256 << 20
    """Size at which a shard is closed; also what a killed import repeats at most."""

    def __post_init__(self) -> None:
        if not self.name or not all(each.isalnum() or each in "-_" for each in self.name):
            raise ValueError(f"a name has letters, digits, - and _ only, got {self.name!r}")
        check_below_one("val_fraction", self.val_fraction)
        for name in ("min_side", "max_references", "shard_bytes"):
            check_at_least(name, getattr(self, name), 1)
        check_at_least("max_aspect", self.max_aspect, 2)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportReport:
    """What an import made of the rows of its source."""

    rows: int
    samples: int
    tasks: dict[str, int]
    quarantined: dict[str, int]
    """By reason."""
    shards: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Decoded:
    """A sample with its images decoded."""

    sample: RawSample
    target: StoredImage
    references: list[StoredImage] = field(default_factory=list)
    negative_target: StoredImage | None = None


def import_source(
    source: Source,
    folder: Path,
    options: ImportOptions,
    *,
    workers: int | None = None,
    watch: Callable[[int], None] = lambda rows: None,
) -> ImportReport:
    """Import a source into a folder, or resume an interrupted import.

    Args:
        folder: A new or empty folder, or that of the same import.
        workers: Threads that decode; by default one per core, at most eight. Their number never
            changes the result.
        watch: Called after each row with the number of rows processed.

    Raises:
        DataError: The folder holds something else, the source has changed since, or none of its
            rows can be used.
        FolderInUseError: Another import is writing there.
        OSError: The disk is full or fails; finished shards stay.
    """
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file, expected a folder to import into")
    with locked(folder):
        revision = source.revision()
        manifest = _begin(revision.state, folder, options)
        if not manifest.complete:
            importing = _Import(source, folder, options, revision.content)
            importing.run(workers or min(os.cpu_count() or 1, 8), watch)
            if importing.samples == 0:
                replace(manifest, unusable=True).write(folder)
                raise DataError(nothing_usable(folder))
            build_index(folder)
            manifest.finished(folder)
        return _report(folder)


def _begin(revision: str, folder: Path, options: ImportOptions) -> DataSetManifest:
    """The manifest of this import, written if the folder is new."""
    wanted = DataSetManifest(
        name=options.name,
        revision=revision,
        options={key: value for key, value in asdict(options).items() if key != "name"},
    )
    folder.mkdir(parents=True, exist_ok=True)
    found = read_manifest(folder)
    if found is None:
        # A kill may have left the manifest half-written.
        if any(each.name not in (f"{MANIFEST}.part", LOCK) for each in folder.iterdir()):
            raise DataError(f"{folder} is neither empty nor a data set; choose a new folder")
        wanted.write(folder)
        return wanted
    if not found.complete and not committed_indexes(folder):
        # Nothing is stored yet, so the source or the options may be corrected.
        (folder / QUARANTINE).unlink(missing_ok=True)
        wanted.write(folder)
        return wanted
    for name in ("name", "options", "revision"):
        if getattr(found, name) != getattr(wanted, name):
            what = {"revision": "other content of the source", "options": "other options"}.get(
                name, "another name"
            )
            raise DataError(f"{folder} was imported with {what}; import into a new folder")
    return found


class _Import:
    """One run: from the last finished shard to the end of the source."""

    def __init__(self, source: Source, folder: Path, options: ImportOptions, revision: str) -> None:
        self.source = source
        self.folder = folder
        self.options = options
        self.revision = revision
        self.writer: ShardWriter | None = None
        self.pending: list[str] = []
        """Quarantine lines since the last finished shard."""
        self.fresh: set[int] = set()
        """Keys of the samples in the unfinished shard."""
        self._resume_after_last_shard()

    def _resume_after_last_shard(self) -> None:
        indexes = committed_indexes(self.folder)
        self.shards = len(indexes)
        progress = read_progress(indexes[-1]) if indexes else Progress()
        self.rows, self.samples = progress.rows, progress.samples
        known = [pq.read_table(each, columns=["sid"])["sid"].to_numpy() for each in indexes]
        self.known = np.sort(np.concatenate([np.empty(0, dtype=np.uint64), *known]))
        if len(self.known) != self.samples:
            raise DataError(
                f"{self.folder} lacks some of its finished shards; import into a new folder"
            )
        for leftover in self.folder.glob("*.part"):
            leftover.unlink()
        for tar in self.folder.glob("*.tar"):
            if not tar.with_suffix(".parquet").exists():
                tar.unlink()
        self.quarantine = self.folder / QUARANTINE
        with self.quarantine.open("ab") as file:
            file.truncate(progress.quarantine_bytes)

    def run(self, workers: int, watch: Callable[[int], None]) -> None:
        """Process all remaining rows."""
        try:
            rows = self.source.rows_from(self.rows)
            for outcome in bounded_map(self._decode, rows, workers=workers):
                self._add(outcome)
                self.rows += 1
                if self.writer is not None and self.writer.size >= self.options.shard_bytes:
                    self._commit()
                watch(self.rows)
            self._commit()
        finally:
            if self.writer is not None:
                self.writer.abandon()

    def _decode(self, row: RawSample | BadRow) -> _Decoded | BadRow:
        """Decode the images of a row; runs in a worker thread."""
        if isinstance(row, BadRow):
            return row
        try:
            is_limited = row.provenance is None
            if is_limited and len(row.references) > self.options.max_references:
                count, limit = len(row.references), self.options.max_references
                raise BadSampleError(
                    "references", f"{count} references, at most {limit} are accepted"
                )
            target = self._image(row.target, "the target", is_limited=is_limited)
            references = [
                self._image(each, f"reference {number}", is_limited=is_limited)
                for number, each in enumerate(row.references, 1)
            ]
            negative = row.negative_target
            rejected = None
            if negative is not None:
                rejected = self._image(negative, "the negative target", is_limited=is_limited)
            if target.hash in {each.hash for each in references}:
                raise BadSampleError("ref_target_identical", "a reference is the target itself")
        except BadSampleError as error:
            return BadRow(native_id=row.native_id, reason=error.reason, message=str(error))
        return _Decoded(sample=row, target=target, references=references, negative_target=rejected)

    def _image(self, source: ImageSource, role: str, *, is_limited: bool) -> StoredImage:
        """Read an image and decode it.

        Raises:
            BadSampleError: It cannot be read, or the options exclude it.
        """
        try:
            if isinstance(source, bytes):
                data, name = source, role
            else:
                data, name = read_file(self.source.root / source, name=source), source
            with open_image(data, name=name) as image:
                mode, kind = image.mode, image.format or "unknown"
                stated = image.size
                width, height = to_rgb(image, name=name).size
                orientation = image.getexif().get(ORIENTATION_TAG, 1)
                if image.size != stated and kind in ("JPEG", "MPO"):
                    # Decoded at a reduced scale: it is the file's own size that counts.
                    width, height = stated if orientation <= 4 else stated[::-1]
        except ImageError as error:
            raise BadSampleError(error.reason, str(error)) from None
        short, long = sorted((width, height))
        size = f"{width} x {height}"
        if is_limited and short < self.options.min_side:
            least = self.options.min_side
            raise BadSampleError(
                "too_small", f"{name} is {size}, expected sides of {least} or more"
            )
        if is_limited and long >= self.options.max_aspect * short:
            limit = self.options.max_aspect
            raise BadSampleError("aspect", f"{name} is {size}, expected less than {limit} to 1")
        return StoredImage(
            data=data,
            format=kind,
            width=width,
            height=height,
            exif_orientation=orientation if orientation in range(1, 9) else 1,
            mode=mode,
            hash=content_hash(data),
        )

    def _add(self, outcome: _Decoded | BadRow) -> None:
        if isinstance(outcome, _Decoded):
            known = outcome.sample.provenance
            sample_id = f"{self.options.name}/{outcome.sample.native_id}"
            if known is not None:
                sample_id = known.sample_id
            sid = sid_of(sample_id)
            if not self._is_known(sid):
                self._store(outcome, sample_id, sid)
                return
            outcome = BadRow(
                native_id=outcome.sample.native_id,
                reason="duplicate",
                message="an earlier row has the same id",
            )
        line = {
            "sample_id": f"{self.options.name}/{outcome.native_id}",
            "reason": outcome.reason,
            "message": " ".join(outcome.message.split()),
        }
        self.pending.append(json.dumps(line) + "\n")

    def _is_known(self, sid: int) -> bool:
        if sid in self.fresh:
            return True
        place = int(np.searchsorted(self.known, np.uint64(sid)))
        return place < len(self.known) and int(self.known[place]) == sid

    def _store(self, looked: _Decoded, sample_id: str, sid: int) -> None:
        if self.writer is None:
            self.writer = ShardWriter(self.folder, f"{self.options.name}-{self.shards:06d}")
        writer, sample, known = self.writer, looked.sample, looked.sample.provenance
        key = f"{self.samples:09d}"
        images = {"": looked.target}
        images |= {f"reference{number}": each for number, each in enumerate(looked.references)}
        if looked.negative_target is not None:
            images["negative"] = looked.negative_target
        placed = [writer.add_image(key, each, role=role) for role, each in images.items()]
        if known is not None:
            placed = [
                each.model_copy(update={"url": url})
                for each, url in zip(placed, known.urls, strict=True)
            ]
        target, *others = placed
        negative = others.pop() if looked.negative_target is not None else None
        licence, may = sample.licence, sample.redistributable
        record = Record(
            sample_id=sample_id,
            sid=sid,
            source=self.options.name if known is None else known.source,
            source_rev=self.revision if known is None else known.source_rev,
            task="edit" if others else "t2i",
            skills=list(sample.skills),
            prompts=list(sample.prompts),
            reasoning=sample.reasoning,
            references=others,
            target=target,
            negative_target=negative,
            render_text=list(sample.render_text),
            licence=self.options.licence if licence is None else licence,
            redistributable=self.options.redistributable if may is None else may,
            split=split_of(sid, self.options.val_fraction) if known is None else known.split,
        )
        writer.add_record(key, record)
        self.fresh.add(sid)
        self.samples += 1

    def _commit(self) -> None:
        """Finish the shard, after its quarantine: a rerun removes lines that no index covers."""
        with self.quarantine.open("ab") as file:
            file.write("".join(self.pending).encode())
            file.flush()
            os.fsync(file.fileno())
            length = file.tell()
        self.pending = []
        if self.writer is None:
            return
        self.writer.commit(Progress(rows=self.rows, samples=self.samples, quarantine_bytes=length))
        self.writer = None
        self.shards += 1
        fresh = np.fromiter(self.fresh, dtype=np.uint64)
        self.known = np.sort(np.concatenate([self.known, fresh]))
        self.fresh = set()


def _report(folder: Path) -> ImportReport:
    data = DataSet.open(folder)
    quarantined = Counter(each["reason"] for each in read_quarantine(folder))
    return ImportReport(
        rows=len(data) + quarantined.total(),
        samples=len(data),
        tasks={task: len(data.rows(task=task)) for task in data.tasks},
        quarantined=dict(sorted(quarantined.items())),
        shards=len(committed_indexes(folder)),
    )
