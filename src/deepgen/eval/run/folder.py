"""A run on disk: its manifest (``run.json``), the images, and a line for each finished one.

Several processes may work on one run, and any of them may be killed at any moment. So every file
appears whole, each process appends lines to a file of its own, and a line counts only if its
image has the hash that it names. When the last image is there, the lines are put into
``images.jsonl`` in the order of the benchmark: equal runs are equal files.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from deepgen.checkpoint.files import CARD_NAME
from deepgen.config.decoding import decode
from deepgen.errors import BenchmarkError
from deepgen.eval.benchmark import Benchmark, GenerationRule, Item, image_seed
from deepgen.locks import LOCK
from deepgen.reading import MAX_LINES_BYTES, open_regular, parse_json, read_bytes, read_json, walk

MANIFEST = "run.json"
IMAGES = "images"
LINES = "images.jsonl"
PARTS = ".parts"
REPORT_LOCK = ".report.lock"
"""Held while a report is written; see :mod:`deepgen.locks`."""
REPLIES = "replies.sqlite"
"""Replies of the judge of a run; may exist before the first image, as the judge is probed first."""
FORMAT = 3
"""Format of the run folder; runs of another format are not resumed."""

ImageKey = tuple[str, int]
"""Id of an item and number of its image_index."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunManifest:
    """All that decides what the images of a run look like."""

    benchmark: str
    model: str
    """As the user named it; the weights say which it is."""
    weights_sha256: str
    limit: int | None
    """How many prompts were chosen; None is all of them."""
    prompts_sha256: str
    base_seed: int | None
    """None where unknown, for images that were generated elsewhere."""
    rule: GenerationRule
    settings: Mapping[str, str]
    """Device, precision and what else changes pixels."""
    versions: Mapping[str, str]
    images: str | None = None
    """Folder of images that were generated elsewhere; None is the run's own."""
    format: int = FORMAT


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageEntry:
    """One finished image."""

    item: str
    image_index: int
    seed: int | None
    height: int
    width: int
    steps: int | None
    guidance_scale: float | None
    path: str
    """Below the folder of images."""
    sha256: str


def hash_items(items: Iterable[Item]) -> str:
    """One hash of all inputs of a model: ids, numbers, prompts and names of sources."""
    inputs = [[each.id, each.number, each.prompt, [str(s) for s in each.sources]] for each in items]
    return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()


def hash_folder(folder: Path) -> str:
    """One hash of a model's files, by name and content, without its model card."""
    digest = hashlib.sha256()
    files = (Path(each.path) for _, found in walk(folder) for each in found if each.is_file())
    for path in sorted(files):
        name = path.relative_to(folder)
        # Python's own traces of having imported something there are no part of a model.
        if path.suffix not in (".py", ".pyc") and path.name != CARD_NAME:
            digest.update(f"{name.as_posix()}\0{hash_file(path)}\n".encode())
    return digest.hexdigest()


def hash_file(path: Path) -> str:
    """SHA-256 of a file."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class RunFolder:
    """The files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._images: Path | None = None

    @property
    def images(self) -> Path:
        """The official layout begins here."""
        if self._images is None and (self.path / MANIFEST).exists():
            self._images = Path(self.manifest().images or self.path / IMAGES)
        return self._images or self.path / IMAGES

    def begin(self, manifest: RunManifest) -> None:
        """Start the run, or resume it.

        Raises:
            BenchmarkError: The folder holds something else, or a run of another model or of other
                settings.
        """
        if not (self.path / MANIFEST).exists():
            if self.path.exists() and not self.path.is_dir():
                raise BenchmarkError(f"{self.path} is not a folder; choose another one for the run")
            if self.path.is_dir() and not all(_may_be_first(each) for each in self.path.iterdir()):
                # Another process of this run may have begun it just now.
                if not (self.path / MANIFEST).exists():
                    raise BenchmarkError(
                        f"{self.path} is not empty and has no {MANIFEST}: it is not a run; choose "
                        "another folder"
                    )
            else:
                self.write_first(MANIFEST, _text(asdict(manifest)))
        found = asdict(self.manifest())
        expected = json.loads(_text(asdict(manifest)))
        for name, wanted in _flat(expected):
            have = dict(_flat(found)).get(name)
            if name != "model" and have != wanted:
                difference = (
                    f"over {have or 'all'} prompts, not {wanted or 'all'}"
                    if name == "limit"
                    else f"with {name} {have}, not {wanted}"
                )
                raise BenchmarkError(
                    f"{self.path} is a run {difference}; choose another folder, or "
                    "resume with the settings that began it"
                )

    def manifest(self) -> RunManifest:
        """What decides the images of this run.

        Raises:
            BenchmarkError: There is none, or it is damaged.
        """
        path = self.path / MANIFEST
        try:
            values = read_json(path)
            found = values["format"]
            if found == FORMAT:
                return decode(RunManifest, values)
        except FileNotFoundError:
            raise BenchmarkError(
                f"{self.path} is not a run: it has no {MANIFEST}; start one with deepgen eval "
                "generate"
            ) from None
        except (OSError, ValueError, TypeError, KeyError) as cause:
            raise BenchmarkError(
                f"{path} is not what deepgen wrote ({cause}); start a new run in another folder"
            ) from None
        raise BenchmarkError(
            f"{path} was written by another version of deepgen (format {found}, expected "
            f"{FORMAT}); start a new run in another folder"
        )

    def name_model(self, model: str) -> None:
        """Record which model made the images, where that is named after the run began."""
        found = self.manifest()
        if found.model != model:
            text = _text(asdict(replace(found, model=model)))
            self.write(PurePosixPath(MANIFEST), text.encode(), below=self.path)

    def finished(
        self, benchmark: Benchmark, manifest: RunManifest, items: Sequence[Item]
    ) -> dict[ImageKey, ImageEntry]:
        """Entries whose image is there with their hash, in the order of the items."""
        lines: dict[ImageKey, list[ImageEntry]] = {}
        for line in self._lines():
            lines.setdefault((line.item, line.image_index), []).append(line)
        whole: dict[ImageKey, ImageEntry] = {}
        hashes: dict[Path, str] = {}
        for item in items:
            for image_index in range(manifest.rule.images_per_item):
                for line in lines.get((item.id, image_index), ()):
                    if _is_for(line, benchmark, manifest, item) and self._is_whole(line, hashes):
                        whole[item.id, image_index] = line
                        break
        return whole

    def _is_whole(self, line: ImageEntry, hashes: dict[Path, str]) -> bool:
        """Whether an entry's image is there and has its hash."""
        file = self.images / line.path
        # Entries may share a file: four images of a prompt in one grid.
        if file not in hashes:
            hashes[file] = hash_file(file) if file.is_file() else ""
        return hashes[file] == line.sha256

    def close(self, lines: Iterable[ImageEntry]) -> None:
        """Put all lines into one file, now that every image is there.

        Any number of processes may do so at once: they write the same.
        """
        text = "".join(f"{json.dumps(asdict(line))}\n" for line in lines)
        parts = list(self.path.glob("generated-*.jsonl"))
        self.write(PurePosixPath(LINES), text.encode(), below=self.path)
        for part in parts:
            part.unlink(missing_ok=True)

    def tidy(self) -> None:
        """Remove what killed processes left of files they were writing.

        Only for whoever has the folder to itself: others may be writing such files now.
        """
        shutil.rmtree(self.path / PARTS, ignore_errors=True)

    def write(self, path: PurePosixPath, content: bytes, *, below: Path | None = None) -> None:
        """Write a file among the images, atomically.

        Nothing is synced to disk: what a power failure damages has another hash than its entry.
        """
        target = (below or self.images) / path
        if target.is_file() and target.read_bytes() == content:
            return
        with self._part() as part:
            part.write_bytes(content)
            target.parent.mkdir(parents=True, exist_ok=True)
            part.replace(target)

    def write_first(self, name: str, text: str) -> None:
        """As :meth:`write`, but a file that another process has just written stays."""
        with self._part() as part:
            part.write_text(text, encoding="utf-8")
            try:
                os.link(part, self.path / name)
            except FileExistsError:
                return
            except OSError:
                # Some file systems have no hard links.
                part.replace(self.path / name)

    @contextmanager
    def _part(self) -> Iterator[Path]:
        folder = self.path / PARTS
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / uuid.uuid4().hex
        try:
            yield part
        finally:
            part.unlink(missing_ok=True)

    def _lines(self) -> Iterator[ImageEntry]:
        # The common file last: a process that removes the others has written it before.
        for path in [*sorted(self.path.glob("generated-*.jsonl")), self.path / LINES]:
            with suppress(FileNotFoundError):
                yield from _read_lines(path)


class LineWriter:
    """Appends the lines of one process to a file that no other writes to."""

    def __init__(self, folder: RunFolder, rank: int) -> None:
        # A new name for each start: a killed process may have left an incomplete line.
        self._path = folder.path / f"generated-{rank}-{uuid.uuid4().hex}.jsonl"

    def add(self, line: ImageEntry) -> None:
        """Write one line, in one piece."""
        with self._path.open("ab", buffering=0) as file:
            file.write(f"{json.dumps(asdict(line))}\n".encode())


def _may_be_first(path: Path) -> bool:
    """Whether a file may be there before a run begins; the database has sidecar files while
    open."""
    return path.name in (PARTS, LOCK, REPORT_LOCK) or path.name.startswith(REPLIES)


def _is_for(line: ImageEntry, benchmark: Benchmark, manifest: RunManifest, item: Item) -> bool:
    """Whether an entry is the image that the run wants; images from elsewhere have any name."""
    if manifest.images is not None:
        return True
    assert manifest.base_seed is not None, "a run that generates has seeds"
    wanted = image_seed(manifest.base_seed, item, line.image_index)
    return line.seed == wanted and line.path == str(benchmark.image_path(item, line.image_index))


def _read_lines(path: Path) -> Iterator[ImageEntry]:
    lines = read_bytes(path, limit=MAX_LINES_BYTES).split(b"\n")
    for number, text in enumerate(lines, start=1):
        try:
            values = parse_json(text)
        except ValueError:
            # An incomplete or damaged line means that its image is generated again.
            continue
        try:
            yield decode(ImageEntry, values)
        except ValueError as cause:
            raise BenchmarkError(
                f"{path}, line {number}: not an entry of an image ({cause}); delete the line, and "
                "the image counts as missing"
            ) from None


def _text(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=1) + "\n"


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Names and values, those of inner objects with a dot."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
