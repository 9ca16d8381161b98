"""Tables of images and texts: JSON Lines, a JSON array, CSV or Parquet.

Columns have any of the usual names (see ``source``). A row may instead refer to an annotation file
beside the images, as in ``{"image": "a/x.jpg", "annotation": "a/x.json"}``. All formats are
streamed.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from deepgen.data.importers.source import (
    BadRow,
    BadSampleError,
    RawSample,
    Source,
    SourceOptions,
    check_relative,
    read_row,
)
from deepgen.errors import DataError

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")

CHUNK = 1 << 20
"""Characters of a JSON array that are read at a time; more than any plausible row has."""

LONGEST_ROW = 64 * CHUNK
"""Characters after which a value of a JSON array that does not end is an error."""

SEPARATORS = tuple(" \t\r\n,")

DELIMITERS = (",", ";", "\t", "|")
"""Column delimiters of tables as text."""

PARQUET_ROWS = 256
"""Rows read at a time; they may contain images."""


class TableSource(Source):
    """A table file, and the folder its paths start from, by default its own.

    Args:
        path: The table; its suffix states its format, except that ``.json`` may be JSON Lines.

    Raises:
        DataError: There is no such table.
    """

    def __init__(
        self, path: Path, root: Path | None = None, *, caption_key: str | None = None
    ) -> None:
        if not path.is_file():
            raise DataError(f"no table at {path}; expected a file ending in {', '.join(SUFFIXES)}")
        if path.suffix.lower() not in SUFFIXES:
            raise DataError(f"{path} must end in one of {', '.join(SUFFIXES)}")
        self.path = path
        self.root = path.parent if root is None else root
        self.caption_key = caption_key

    def rows(self) -> Iterator[RawSample | BadRow]:
        """All rows; the id of one without its own is its number, from 0.

        Raises:
            DataError: The rest of the file cannot be read.
        """
        for number, row in enumerate(self.raw_rows()):
            native_id = f"{number:06d}"
            if isinstance(row, BadSampleError):
                yield BadRow(native_id=native_id, reason=row.reason, message=str(row))
            elif not isinstance(row, dict):
                found = f"expected an object with named values, found {str(row)[:60]!r}"
                yield BadRow(native_id=native_id, reason="row", message=found)
            else:
                yield self._read(row, native_id)

    def _read(self, row: dict[str, Any], native_id: str) -> RawSample | BadRow:
        annotation = row.get("annotation")
        if isinstance(annotation, str) and annotation:
            try:
                check_relative(annotation)
                row = {**read_annotation(self.root / annotation), **row}
            except BadSampleError as error:
                return BadRow(native_id=native_id, reason=error.reason, message=str(error))
        return read_row(row, native_id, self.caption_key)

    def raw_rows(self) -> Iterator[Any]:
        """Rows as they are stored; a :class:`BadSampleError` for one that cannot be parsed.

        Raises:
            DataError: The rest of the file cannot be read.
        """
        suffix = self.path.suffix.lower()
        try:
            if suffix == ".parquet":
                yield from _parquet_rows(self.path)
                return
            with self.path.open(encoding="utf-8-sig", newline="") as file:
                if suffix in (".csv", ".tsv"):
                    yield from _csv_rows(file, _delimiter(file, suffix))
                elif _is_array(file):
                    yield from _array_values(file)
                else:
                    yield from _line_values(file)
        except UnicodeDecodeError:
            raise DataError(f"{self.path} is not UTF-8; save it as that") from None
        except (pa.ArrowInvalid, csv.Error, ValueError) as error:
            reason = " ".join(str(error).split())
            raise DataError(
                f"{self.path} is damaged ({reason}); repair it and import again"
            ) from None


def open_source(path: Path, options: SourceOptions) -> TableSource:
    """A table, with its images in its own folder or in another.

    Raises:
        DataError: There is no such table or folder of images.
    """
    if options.caption_suffix is not None or options.ignore_metadata:
        raise ValueError("--caption-suffix and --ignore-metadata are for folders, not for tables")
    if options.images is not None and not options.images.is_dir():
        raise DataError(f"there is no folder {options.images} of images; check the path")
    return TableSource(path, options.images, caption_key=options.caption_key)


def read_annotation(path: Path) -> Mapping[str, Any]:
    """A JSON file that belongs to one image.

    Raises:
        BadSampleError: It is missing or not an object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise BadSampleError("missing", f"no annotation at {path.name}") from None
    except OSError as error:
        raise BadSampleError("io", f"{path.name} cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise BadSampleError("row", f"{path.name} is not JSON ({error})") from None
    if not isinstance(found, dict):
        raise BadSampleError("row", f"{path.name} holds no object with named values")
    return found


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=PARQUET_ROWS):
            yield from batch.to_pylist()


def _delimiter(file: TextIO, suffix: str) -> str:
    """What separates the names in a table's header; rewinds.

    That of the suffix where it separates anything, else the one that gives the most names:
    spreadsheets of many countries save "CSV" with semicolons.
    """
    usual = "\t" if suffix == ".tsv" else ","
    header = file.readline(CHUNK)
    file.seek(0)
    counts = {each: header.count(each) for each in (usual, *DELIMITERS)}
    return usual if counts[usual] else max(counts, key=lambda each: counts[each])


def _csv_rows(file: TextIO, delimiter: str) -> Iterator[Any]:
    # Some captions are longer than the module's default limit of 128 kB; the limit must fit a C
    # long, which has 32 bits on Windows.
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    for row in csv.DictReader(file, delimiter=delimiter):
        if None in row or None in row.values():
            yield BadSampleError("row", "the number of fields differs from the header")
        else:
            yield row


def _line_values(file: TextIO) -> Iterator[Any]:
    for line in file:
        if line.strip():
            try:
                yield json.loads(line)
            except ValueError as error:
                yield BadSampleError("row", f"the line is not JSON ({error})")


def _is_array(file: TextIO) -> bool:
    """Whether the first non-blank character opens a JSON array; rewinds."""
    while (character := file.read(1)).isspace():
        pass
    file.seek(0)
    return character == "["


def _array_values(file: TextIO) -> Iterator[Any]:
    """The values of a JSON array, with only a few of them in memory."""
    decoder = json.JSONDecoder()
    text = file.read(CHUNK)
    position = text.index("[") + 1
    while True:
        while text[position : position + 1] in SEPARATORS:
            position += 1
        if text[position : position + 1] == "]":
            return
        try:
            value, position = decoder.raw_decode(text, position)
        except ValueError:
            more = file.read(CHUNK)
            if not more or len(text) - position > LONGEST_ROW:
                raise
            text, position = text[position:] + more, 0
        else:
            yield value
