"""Tables of images and texts: JSON Lines, a JSON array, CSV or Parquet.

Columns have any of the usual names (see ``source``). A row may instead refer to an annotation file
beside the images, as in ``{"image": "a/x.jpg", "annotation": "a/x.json"}``. All formats are
streamed.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from deepgen.data.importers.fields import Fields, fields_of, read_fields
from deepgen.data.importers.source import (
    ID_KEYS,
    PROMPT_KEYS,
    REFERENCE_KEYS,
    TARGET_KEYS,
    BadRow,
    BadSampleError,
    RawSample,
    Source,
    SourceOptions,
    check_relative,
    read_row,
)
from deepgen.errors import DataError, reason_of
from deepgen.reading import (
    MAX_DEPTH,
    MAX_TEXT_BYTES,
    check_depth,
    open_regular,
    parse_json,
    read_json,
)

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")

CHUNK = 1 << 20
"""Characters of a JSON array that are read at a time; more than any plausible row has."""

LONGEST_ROW = 16 * CHUNK
"""Characters that a row may have; a longer line is for the quarantine, and ends other tables."""

TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?P<end>")?|[\[\]{}]', re.DOTALL)
"""Strings and brackets of JSON; a string that is not whole has no ``end``."""

SEPARATORS = tuple(" \t\r\n,")

DELIMITERS = (",", ";", "\t", "|")
"""Column delimiters of tables as text."""

MAX_UNPACKED_BYTES = 64 << 20
MAX_RATIO = 1000
"""A Parquet file that takes more bytes in memory than both, the second times those on disk, is
refused before it is read. Captions take up to some ten times as much; two kB can stand
for 500 MB."""

SHOWN_REASON = 200
"""Characters of an error of a library that are shown."""

PROBED_ROWS = 1000
"""Rows in which the columns of a mapping are looked for."""

USUAL = Fields(
    target=TARGET_KEYS,
    references=REFERENCE_KEYS,
    texts={"prompts": None, **dict.fromkeys(PROMPT_KEYS)},
    rivals=PROMPT_KEYS,
    id=ID_KEYS,
    reasoning=("reasoning",),
    render_text=("render_text",),
    has_edits_only=False,
)
"""What columns hold that the user does not map."""

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
            raise DataError(f"there is no file {path}; give a table: {', '.join(SUFFIXES)}")
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
            with TextIOWrapper(open_regular(self.path), encoding="utf-8-sig", newline="") as file:
                if suffix in (".csv", ".tsv"):
                    yield from _csv_rows(file, _delimiter(file, suffix))
                elif _is_array(file):
                    yield from _array_values(file)
                else:
                    yield from _line_values(file)
        except UnicodeDecodeError:
            raise DataError(f"{self.path} is not UTF-8; save it as that") from None
        except (pa.ArrowException, csv.Error, ValueError, OverflowError) as error:
            reason = " ".join(str(error).split())[:SHOWN_REASON]
            raise DataError(
                f"{self.path} is damaged ({reason}); repair it and import again"
            ) from None
        except OSError as error:
            raise DataError(f"{self.path} cannot be read ({reason_of(error)})") from None


class MappedTable(TableSource):
    """A table of which the user states what its columns hold; others are not read."""

    def __init__(self, path: Path, root: Path | None, mapping: Sequence[str]) -> None:
        super().__init__(path, root)
        self.fields = fields_of(mapping, USUAL)

    def probe(self) -> list[str]:
        """Check that the first rows have the columns of the mapping.

        Raises:
            DataError: They do not.
        """
        first = [row for row in islice(self.raw_rows(), PROBED_ROWS) if isinstance(row, dict)]
        seen = {key for row in first for key in row}
        for names in self.fields.required:
            if first and not seen.intersection(names):
                raise DataError(
                    f"{self.path} has no column {' or '.join(names)}; it has {', '.join(seen)}"
                )
        return []

    def _read(self, row: dict[str, Any], native_id: str) -> RawSample | BadRow:
        found: RawSample | BadRow = read_fields(row, self.fields, native_id, lambda path: path)
        return found


def open_source(path: Path, options: SourceOptions) -> TableSource:
    """A table, with its images in its own folder or in another.

    Raises:
        DataError: There is no such table or folder of images.
    """
    if options.caption_suffix is not None or options.ignore_metadata:
        raise ValueError("--caption-suffix and --ignore-metadata are for folders, not for tables")
    if options.images is not None and not options.images.is_dir():
        raise DataError(f"there is no folder {options.images} of images; check the path")
    if options.mapping:
        return MappedTable(path, options.images, options.mapping)
    return TableSource(path, options.images, caption_key=options.caption_key)


def read_annotation(path: Path) -> Mapping[str, Any]:
    """A JSON file that belongs to one image.

    Raises:
        BadSampleError: It is missing or not an object.
    """
    try:
        found = read_json(path, limit=MAX_TEXT_BYTES, encoding="utf-8-sig")
    except FileNotFoundError:
        raise BadSampleError("missing", f"no annotation at {path.name}") from None
    except OSError as error:
        raise BadSampleError("io", f"{path.name} cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise BadSampleError("row", f"{path.name} is not JSON ({error})") from None
    if not isinstance(found, dict):
        raise BadSampleError("row", f"{path.name} holds no object with named values")
    return found


def _parquet_rows(path: Path) -> Iterator[Any]:
    with open_regular(path) as opened, pq.ParquetFile(opened) as stored:
        texts = _check_sizes(stored, os.fstat(opened.fileno()).st_size)
    # As a dictionary a text that many rows share is in memory once.
    with open_regular(path) as opened, pq.ParquetFile(opened, read_dictionary=texts) as file:
        for batch in file.iter_batches(batch_size=PARQUET_ROWS):
            long = {row for name in texts for row in _long_texts(batch.column(name))}
            try:
                if not long:
                    yield from batch.to_pylist()
                    continue
            except (pa.ArrowException, ValueError, OverflowError):
                # A row has a value that Python cannot express, such as the year 70,000.
                pass
            for number in range(batch.num_rows):
                if number in long:
                    yield BadSampleError("row", f"a text has more than {MAX_TEXT_BYTES:,} bytes")
                else:
                    yield _parquet_row(batch.slice(number, 1))


def _parquet_row(batch: pa.RecordBatch) -> Any:
    try:
        return batch.to_pylist()[0]
    except (pa.ArrowException, ValueError, OverflowError) as error:
        return BadSampleError("row", f"a value cannot be read ({str(error)[:SHOWN_REASON]})")


def _check_sizes(file: pq.ParquetFile, stored: int) -> list[str]:
    """Names of the columns of texts, if the rows do not take far more memory than bytes on disk.

    Of row groups, because pyarrow ends the process where the sizes of a column are damaged.

    Args:
        file: The table.
        stored: Bytes of its file.

    Raises:
        ValueError: They do.
    """
    schema = file.schema_arrow
    names = {each.name for each in schema if each.type in (pa.string(), pa.large_string())}
    groups = range(file.metadata.num_row_groups)
    size = sum(file.metadata.row_group(group).total_byte_size for group in groups)
    if size > MAX_UNPACKED_BYTES and size > MAX_RATIO * stored:
        raise ValueError(f"{stored:,} bytes stand for {size:,}")
    return sorted(names)


def _long_texts(column: pa.Array) -> list[int]:
    """Numbers of the rows whose text has more than ``MAX_TEXT_BYTES``."""
    lengths = pc.binary_length(column.dictionary if hasattr(column, "dictionary") else column)
    if (pc.max(lengths).as_py() or 0) <= MAX_TEXT_BYTES:
        return []
    indices = column.indices if hasattr(column, "dictionary") else pa.array(range(len(column)))
    long = pc.greater(lengths.take(indices), MAX_TEXT_BYTES)
    return [number for number, is_long in enumerate(long.to_pylist()) if is_long]


def _delimiter(file: TextIOWrapper, suffix: str) -> str:
    """What separates the names in a table's header; rewinds.

    That of the suffix where it separates anything, else the one that gives the most names:
    spreadsheets of many countries save "CSV" with semicolons.
    """
    usual = "\t" if suffix == ".tsv" else ","
    header = file.readline(CHUNK)
    file.seek(0)
    counts = {each: header.count(each) for each in (usual, *DELIMITERS)}
    return usual if counts[usual] else max(counts, key=lambda each: counts[each])


def _csv_rows(file: TextIOWrapper, delimiter: str) -> Iterator[Any]:
    # Some captions are longer than the default limit of 128 kB, which is one for all readers.
    usual = csv.field_size_limit(LONGEST_ROW)
    try:
        lines = (line for line, _ in _lines(file, whole=True))
        for row in csv.DictReader(lines, delimiter=delimiter):
            if None in row or None in row.values():
                yield BadSampleError("row", "the number of fields differs from the header")
            else:
                yield row
    finally:
        csv.field_size_limit(usual)


def _line_values(file: TextIOWrapper) -> Iterator[Any]:
    for line, is_whole in _lines(file):
        if not is_whole:
            yield BadSampleError("row", f"the line has more than {LONGEST_ROW:,} characters")
        elif line.strip():
            try:
                yield parse_json(line)
            except ValueError as error:
                yield BadSampleError("row", f"the line is not JSON ({error})")


def _lines(file: TextIOWrapper, *, whole: bool = False) -> Iterator[tuple[str, bool]]:
    """Lines, and whether each is whole: of those over ``LONGEST_ROW`` only the beginning is kept.

    Raises:
        ValueError: One is not, and all have to be.
    """
    while line := file.readline(LONGEST_ROW):
        is_whole = len(line) < LONGEST_ROW or line.endswith("\n")
        if whole and not is_whole:
            raise ValueError(f"a line has more than {LONGEST_ROW:,} characters")
        yield line, is_whole
        while len(line) == LONGEST_ROW and not line.endswith("\n"):
            line = file.readline(LONGEST_ROW)


def _is_array(file: TextIOWrapper) -> bool:
    """Whether the first non-blank character opens a JSON array; rewinds."""
    start = file.read(CHUNK).lstrip()
    file.seek(0)
    return start.startswith("[")


def _array_values(file: TextIOWrapper) -> Iterator[Any]:
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
            value, position = _decoded(decoder, text, position)
        except ValueError:
            rest = text[position:]
            # As much again as there is already: a long row is not parsed again for every chunk.
            more = file.read(max(CHUNK, len(rest)))
            if not more or len(rest) > LONGEST_ROW:
                raise
            text, position = rest + more, 0
        else:
            yield value


def _decoded(decoder: json.JSONDecoder, text: str, position: int) -> tuple[Any, int]:
    """A value of an array and where it ends; a ``BadSampleError`` for one that is nested too deep.

    Raises:
        ValueError: It is not whole, or not JSON.
    """
    try:
        value, end = decoder.raw_decode(text, position)
    except RecursionError:
        return _too_deep(), _end(text, position)
    try:
        check_depth(value)
    except ValueError:
        return _too_deep(), end
    return value, end


def _too_deep() -> BadSampleError:
    return BadSampleError("row", f"the row is nested more than {MAX_DEPTH} deep")


def _end(text: str, position: int) -> int:
    """Where a value ends whose brackets are balanced.

    Raises:
        ValueError: It is not whole.
    """
    depth = 0
    for token in TOKEN.finditer(text, position):
        if token[0] in ("[", "{"):
            depth += 1
        elif token[0] in ("]", "}"):
            depth -= 1
            if depth == 0:
                return token.end()
        elif token["end"] is None:
            break
    raise ValueError("a row does not end")
