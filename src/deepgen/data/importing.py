"""Importing: every image is decoded once; rows that cannot be used are quarantined with a reason.

An import may be killed at any moment. A rerun resumes after the last finished shard, and the result
is the same byte for byte as that of an uninterrupted import.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
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
from deepgen.data.examining import Examiner, with_bytes
from deepgen.data.importers.source import EXCLUDED, BadRow, BadSampleError, RawSample, Source
from deepgen.data.parallel import Executor, Threads
from deepgen.data.records import Record, sid_of, split_of
from deepgen.data.shards import (
    Progress,
    ShardWriter,
    StoredImage,
    committed_indexes,
    read_progress,
)
from deepgen.errors import DataError
from deepgen.locks import LOCK, locked

SCRATCH = "scratch"
"""Folder of unpacked archives, which is removed when the import is complete."""

JUDGED_ROWS = 1000
"""Faulty rows from which on an import with too many stops at once and not at its end."""


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
            raise ValueError(f"name may have letters, digits, - and _ only, got {self.name!r}")
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
    images: list[StoredImage]
    """In the order of the sample's own."""


def import_source(
    source: Source,
    folder: Path,
    options: ImportOptions,
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    max_bad_fraction: float = 1.0,
    watch: Callable[[int], None] = lambda rows: None,
    say: Callable[[str], None] = lambda line: None,
) -> ImportReport:
    """Import a source into a folder, or resume an interrupted import.

    Args:
        folder: A new or empty folder, or that of the same import.
        workers: Threads that decode; by default one per core, at most eight. Their number never
            changes the result.
        executor: What decodes instead of these threads: processes, or several machines.
        max_bad_fraction: Fraction of the rows that may be faulty. With more the import stops; what
            is stored stays, and a larger fraction resumes it.
        watch: Called after each row with the number of rows processed.
        say: Called with what the importer found out about its source, line by line.

    Raises:
        DataError: The folder holds something else, the source has changed since or is not what
            its importer reads, or too many or all of its rows are faulty.
        FolderInUseError: Another import is writing there.
        OSError: The disk is full or fails; finished shards stay.
    """
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file, expected a folder to import into")
    with locked(folder):
        _check_new_or_data(folder)
        try:
            for line in source.probe():
                say(line)
            revision = source.revision()
        except BaseException:
            # Nothing is imported yet, so nothing is to be resumed.
            if read_manifest(folder) is None:
                shutil.rmtree(folder / SCRATCH, ignore_errors=True)
            raise
        manifest = _begin(source, revision.state, folder, options)
        if not manifest.complete:
            importing = _Import(source, folder, options, revision.content)
            most_bad = max_bad_fraction * revision.rows
            threads = Threads(workers or min(os.cpu_count() or 1, 8))
            importing.run(executor or threads, watch, most_bad)
            if importing.samples == 0:
                replace(manifest, unusable=True).write(folder)
                raise DataError(nothing_usable(folder))
            if importing.bad > most_bad:
                raise too_many_bad(folder, importing.bad, most_bad)
            build_index(folder)
            manifest.finished(folder)
        shutil.rmtree(folder / SCRATCH, ignore_errors=True)
        return _report(folder)


def too_many_bad(folder: Path, bad: int, most: float) -> DataError:
    """The error of an import with too many faulty rows; the same command can accept them."""
    counts = Counter(each["reason"] for each in read_quarantine(folder))
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in counts.most_common(5))
    named = f" ({reasons})" if reasons else ""
    return DataError(
        f"{bad:,} rows are faulty{named}, at most {int(most):,} may be: see {folder / QUARANTINE}. "
        "Correct the source, or resume with a larger --max-bad-fraction"
    )


def _check_new_or_data(folder: Path) -> None:
    """Refuse a folder of something else before anything is written into it.

    Raises:
        DataError: It is one.
    """
    # A kill may have left the manifest half-written, or archives unpacked.
    ours = (f"{MANIFEST}.part", LOCK, SCRATCH)
    if read_manifest(folder) is None and any(each.name not in ours for each in folder.iterdir()):
        raise DataError(f"{folder} is neither empty nor a data set; choose a new folder")


def _begin(source: Source, revision: str, folder: Path, options: ImportOptions) -> DataSetManifest:
    """The manifest of this import, written if the folder is new.

    Raises:
        DataError: The folder is that of another import.
    """
    wanted = DataSetManifest(
        name=options.name,
        revision=revision,
        options={key: value for key, value in asdict(options).items() if key != "name"},
    )
    folder.mkdir(parents=True, exist_ok=True)
    found = read_manifest(folder)
    if found is None:
        wanted.write(folder)
        return wanted
    if not found.complete and not committed_indexes(folder):
        # Nothing is stored yet, so the source or the options may be corrected.
        (folder / QUARANTINE).unlink(missing_ok=True)
        wanted.write(folder)
        return wanted
    changed = ""
    if found.name != wanted.name:
        changed = f"another name ({found.name}, now {wanted.name})"
    elif found.options != wanted.options:
        names = [key for key, value in wanted.options.items() if found.options.get(key) != value]
        changed = f"other options ({', '.join(names)})"
    elif found.revision != wanted.revision:
        changed = f"other {source.contents}"
    if changed:
        raise DataError(f"{folder} was imported with {changed}; import into a new folder")
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
        self.bad = sum(each["reason"] != EXCLUDED for each in read_quarantine(self.folder))
        """Faulty rows so far."""

    def run(self, executor: Executor, watch: Callable[[int], None], most_bad: float) -> None:
        """Process all remaining rows.

        Args:
            most_bad: Rows that may be faulty, checked once that says anything.

        Raises:
            DataError: More are.
        """
        try:
            for outcome in self._examined(executor):
                self._add(outcome)
                if self.bad > max(most_bad, JUDGED_ROWS):
                    raise too_many_bad(self.folder, self.bad, most_bad)
                self.rows += 1
                if self.writer is not None and self.writer.size >= self.options.shard_bytes:
                    self._commit()
                watch(self.rows)
            self._commit()
        finally:
            if self.writer is not None:
                self.writer.abandon()

    def _examined(self, executor: Executor) -> Iterator[_Decoded | BadRow]:
        """The remaining rows in their order, examined by some means."""
        options = self.options
        examiner = Examiner(
            root=self.source.root.absolute(),
            min_side=options.min_side,
            max_aspect=options.max_aspect,
            max_references=options.max_references,
            keeps_bytes=executor.is_local,
        )
        for row, found in executor.map(examiner, self.source.rows_from(self.rows)):
            if isinstance(row, BadRow):
                yield row
                continue
            if isinstance(found, BadRow):
                yield found
                continue
            try:
                images = found if executor.is_local else with_bytes(examiner.root, row, found)
            except BadSampleError as error:
                yield BadRow(native_id=row.native_id, reason=error.reason, message=str(error))
                continue
            yield _Decoded(sample=row, images=images)

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
        if outcome.reason != EXCLUDED:
            self.bad += 1
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
        roles = ["", *(f"reference{number}" for number in range(len(sample.references)))]
        if sample.negative_target is not None:
            roles.append("negative")
        placed = [
            writer.add_image(key, each, role=role)
            for role, each in zip(roles, looked.images, strict=True)
        ]
        if known is not None:
            placed = [
                each.model_copy(update={"url": url})
                for each, url in zip(placed, known.urls, strict=True)
            ]
        target, *others = placed
        negative = others.pop() if sample.negative_target is not None else None
        licence, may = sample.licence, sample.redistributable
        group = sid if sample.split_key is None else sid_of(sample.split_key)
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
            split=split_of(group, self.options.val_fraction) if known is None else known.split,
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
