"""Published data sets, described by what their files and fields are called.

A :class:`Layout` says where tables and archives are and which field holds what; most importers are
nothing else. Before an import the first rows are checked against it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from deepgen.data.importers.archives import find_archives
from deepgen.data.importers.fields import Fields, Locate, read_fields
from deepgen.data.importers.member_index import Images
from deepgen.data.importers.source import (
    BadRow,
    BadSampleError,
    RawSample,
    Source,
    SourceOptions,
)
from deepgen.data.importers.table import SUFFIXES, TableSource
from deepgen.data.importers.tar_samples import JOINED, KEY, tar_samples
from deepgen.errors import DataError
from deepgen.reading import MAX_TEXT_BYTES, read_json

PROBED_ROWS = 1000
"""Rows of each part that are checked before an import."""

SHOWN_KEYS = 20
"""Names of fields in a message."""

Row = Mapping[str, Any]
Outcome = RawSample | BadRow
Read = Callable[[Row, str, Locate], Iterable[Outcome]]
StartsAt = Literal["folder", "table", "above table"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Files of a data set that have one form."""

    fields: Fields
    tables: tuple[str, ...] = ()
    """Patterns of tables, relative to the folder of the data set."""
    tars: tuple[str, ...] = ()
    """Patterns of tars whose members with one key are a sample; instead of tables."""
    archives: tuple[str, ...] = ("**/*",)
    """Patterns of the archives that hold the images which tables name."""
    read: Read | None = None
    """Makes samples of a row where ``fields`` cannot say how."""
    leaves_out: Callable[[str], bool] | None = None
    """Whether ``read`` leaves a table out, by its path without the suffix."""
    is_default: bool = True
    """Whether it is imported unless another part is asked for."""
    starts_at: StartsAt = "folder"
    """Where paths start: at the folder of the data set, at that of the table, or at that above."""
    joined: bool = False
    """Whether the images are in other archives, under the keys of these samples."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """What a published data set looks like."""

    title: str
    home: str
    """Where it is published."""
    parts: Mapping[str, Part]
    licence: str = "unknown"
    redistributable: bool = False
    prefixes: tuple[str, ...] = ()
    """Beginnings of the paths in tables that the files do not have."""
    unverified: str = ""
    """What of this form nobody has confirmed on the files themselves; empty if all was read."""
    advice: tuple[str, ...] = field(default=())
    """What users should know; one line each."""

    def open_source(self, path: Path, options: SourceOptions) -> PublishedSource:
        """The data set in a folder, or in a single table or tar of it.

        Raises:
            DataError: There is nothing that looks like it.
            ValueError: An option does not apply.
        """
        return PublishedSource(self, path, options)

    @property
    def description(self) -> str:
        """One line for the list of importers."""
        return f"{self.title} ({self.home})" + (", unverified" if self.unverified else "")


class PublishedSource(Source):
    """A data set in the form that its authors publish it in; see :class:`Layout`."""

    def __init__(self, layout: Layout, path: Path, options: SourceOptions) -> None:
        if options.caption_suffix is not None or options.ignore_metadata:
            raise ValueError("--caption-suffix and --ignore-metadata are for folders of images")
        if not path.exists():
            raise DataError(
                f"there is nothing at {path}; download {layout.title} from {layout.home}"
            )
        if options.images is not None and not options.images.is_dir():
            raise DataError(f"there is no folder {options.images} of images; check the path")
        if options.part is not None and options.part not in layout.parts:
            known = ", ".join(layout.parts)
            raise ValueError(f"{layout.title} has no part {options.part!r}; choose one of {known}")
        self.layout = layout
        self.path = path
        self.licence, self.redistributable = layout.licence, layout.redistributable
        self.folder = path if path.is_dir() else path.parent
        self.root = options.images or self.folder
        self._own = None if options.scratch else TemporaryDirectory(prefix="deepgen-import-")
        self.scratch = options.scratch or Path(self._own.name if self._own else "")
        self.caption_key = options.caption_key
        stated = options.strip_prefix
        self.prefixes = layout.prefixes if stated is None else (stated, *layout.prefixes)
        self.parts = {
            name: part if options.caption_key is None else _with_caption(part, options.caption_key)
            for name, part in layout.parts.items()
            if (part.is_default if options.part is None else name == options.part)
        }
        self._images: dict[tuple[Path, tuple[str, ...]], Images] = {}
        self._files = {name: self._files_of(part) for name, part in self.parts.items()}
        if not any(self._files.values()):
            wanted = " or ".join(
                pattern for part in self.parts.values() for pattern in (*part.tables, *part.tars)
            )
            raise DataError(
                f"{path} holds no {wanted}; download {layout.title} from {layout.home}, and name "
                "its folder"
            )

    def rows(self) -> Iterator[Outcome]:
        """All rows of all parts; faults of archives come before the rows that use them."""
        # Each pass counts for itself: the first rows and the revision were read before.
        for images in self._images.values():
            images.located_by_end = 0
        reported: set[str] = set()
        for name, part in self.parts.items():
            if self._files[name] and (part.tables or part.joined):
                files = [self.folder / "any"] if part.joined else self._files[name]
                for images in self._images_of(part, files):
                    for fault in images.faults():
                        if fault.native_id not in reported:
                            reported.add(fault.native_id)
                            yield fault
            for row, native_id, locate in self._raw(name, part):
                yield from _outcomes(part, row, native_id, locate)

    def probe(self) -> list[str]:
        """Compare the first rows of every part with the layout.

        Raises:
            DataError: A required field is never there, or no image can be found.
        """
        unverified = self.layout.unverified
        lines = [
            f"{self.layout.title}: "
            + (f"unverified ({unverified}); checked here" if unverified else "a known form")
        ]
        lines += self.layout.advice
        for name, part in self.parts.items():
            if not self._files[name]:
                wanted = " or ".join((*part.tables, *part.tars))
                lines.append(f"part {name} is not here ({wanted}), so it is not imported")
                continue
            lines.append(self._probe_part(name, part))
            tables = [self._stem(path) for path in self._files[name] if part.tables]
            left_out = [each for each in tables if part.leaves_out and part.leaves_out(each)]
            if left_out:
                lines.append(f"part {name} leaves these tables out: {', '.join(left_out)}")
        return lines

    def notes(self) -> list[str]:
        """Images whose paths agree with those of the table only at their end."""
        count = sum(each.located_by_end for each in self._images.values())
        if not count:
            return []
        return [
            f"{count:,} images were found by the end of their path, which only one member of the "
            "archives has; --strip-prefix states the beginning to ignore"
        ]

    def _probe_part(self, name: str, part: Part) -> str:
        keys: Counter[str] = Counter()
        count = usable = absent = 0
        first_absent = ""
        for row, native_id, locate in islice(self._raw(name, part), PROBED_ROWS):
            count += 1
            if isinstance(row, Mapping):
                keys.update(key for key, value in row.items() if value not in (None, "", []))
            for outcome in _outcomes(part, row, native_id, locate):
                if isinstance(outcome, BadRow):
                    continue
                usable += 1
                target = outcome.target
                if isinstance(target, str) and not (self.root / target).is_file():
                    absent += 1
                    first_absent = first_absent or target
        seen = ", ".join(key for key, _ in keys.most_common(SHOWN_KEYS)) or "none"
        for wanted in part.fields.required:
            if count and not any(key in keys for key in wanted):
                raise DataError(
                    f"{self.layout.title}, part {name}: none of the first {count} rows has "
                    f"{' or '.join(wanted)}; the fields seen are {seen}"
                )
        if usable and absent == usable:
            there = [each for images in self._images.values() for each in images.some_names()]
            held = f"; its archives hold for example {', '.join(there[:3])}" if there else ""
            raise DataError(
                f"{self.layout.title}, part {name}: no image of the first {count} rows is there, "
                f"for example {first_absent} under {self.root}{held}. Name their folder with "
                "--images, or a beginning to ignore with --strip-prefix"
            )
        return f"part {name}: fields {seen} in the first {count:,} rows"

    def _raw(self, name: str, part: Part) -> Iterator[tuple[Any, str, Locate]]:
        """Rows as stored, each with an id and with what finds its images."""
        if part.tars:
            (images,) = self._images_of(part, [self.folder / "any"]) if part.joined else (None,)
            for archive in find_archives(self.folder, self._patterns(part.tars)):
                for row, native_id in tar_samples(archive, self.scratch):
                    if images is not None and isinstance(row, dict):
                        row[JOINED] = images.find_by_key(row[KEY])
                    yield row, native_id, _in_archive
            return
        for path in self._files[name]:
            (images,) = self._images_of(part, [path])
            stem = self._stem(path)
            for number, row in enumerate(_table_rows(path)):
                yield row, f"{stem}/{number:06d}", images.find

    def _stem(self, table: Path) -> str:
        return table.relative_to(self.folder).with_suffix("").as_posix()

    def _files_of(self, part: Part) -> list[Path]:
        if part.tars:
            found = find_archives(self.folder, self._patterns(part.tars))
            return [each.files[0] for each in found]
        patterns = self._patterns(part.tables)
        paths = {each for pattern in patterns for each in self.folder.glob(pattern)}
        return sorted(each for each in paths if each.is_file() and each.suffix.lower() in SUFFIXES)

    def _patterns(self, patterns: Sequence[str]) -> list[str]:
        """Those of the layout, or the single file that was named where one of them fits it."""
        if self.path.is_dir():
            return list(patterns)
        fitting = any(self.path.match(each.replace("**/", "")) for each in patterns)
        return [self.path.name] if fitting else []

    def _images_of(self, part: Part, tables: Sequence[Path]) -> list[Images]:
        found = []
        for table in tables:
            start = {"table": table.parent, "above table": table.parent.parent}.get(
                part.starts_at, self.folder
            )
            prefix = start.relative_to(self.folder).as_posix()
            key = (self.root / prefix, part.archives)
            if key not in self._images:
                self._images[key] = Images(
                    self.root, self.scratch, part.archives, self.prefixes, beside=prefix
                )
            if self._images[key] not in found:
                found.append(self._images[key])
        return found


def _with_caption(part: Part, key: str) -> Part:
    return replace(part, fields=replace(part.fields, texts={key: None}, rivals=()))


def _outcomes(part: Part, row: Any, native_id: str, locate: Locate) -> Iterator[Outcome]:
    if isinstance(row, BadSampleError):
        yield BadRow(native_id=native_id, reason=row.reason, message=str(row))
        return
    if not isinstance(row, Mapping):
        found = f"expected an object with named values, found {str(row)[:60]!r}"
        yield BadRow(native_id=native_id, reason="row", message=found)
        return
    if part.read is None:
        yield read_fields(row, part.fields, native_id, locate)
        return
    try:
        yield from part.read(row, native_id, locate)
    except BadSampleError as error:
        yield BadRow(native_id=native_id, reason=error.reason, message=str(error))


def _table_rows(path: Path) -> Iterator[Any]:
    """The rows of a table; a JSON file may be a single object over several lines."""
    if path.suffix.lower() == ".json" and path.stat().st_size <= MAX_TEXT_BYTES:
        try:
            found = read_json(path, limit=MAX_TEXT_BYTES, encoding="utf-8-sig")
        except (OSError, ValueError):
            # JSON Lines under this name, or damage that the table reports.
            found = None
        if isinstance(found, Mapping):
            yield found
            return
    yield from TableSource(path).raw_rows()


def _in_archive(stated: str) -> str:
    return stated
