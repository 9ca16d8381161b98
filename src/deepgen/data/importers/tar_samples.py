"""Samples of WebDataset tars: members that share a key, such as ``0001.jpg`` and ``0001.json``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from deepgen.data.importers.archives import Archive, Member, members
from deepgen.data.importers.source import BadRow, BadSampleError
from deepgen.errors import DataError
from deepgen.images.formats import IMAGE_SUFFIXES
from deepgen.reading import MAX_TEXT_BYTES, open_regular, parse_json

REFERENCE = re.compile(r"(?:reference|ref|input)_?(\d+)\.[a-z0-9]+")
"""Members that are references of the sample, by number."""

KEY = "__key__"
"""Field of the key that the members of a sample share."""

JOINED = "__image__"
"""Field of an image from another archive."""

IMAGE = "image"
REFERENCES = "references"
TEXTS = ("txt", "text", "caption")

TarRow = tuple[Any, str]
"""The fields of a sample, or a :class:`BadSampleError`; and its id."""


def tar_samples(archive: Archive, scratch: Path) -> Iterator[TarRow]:
    """Each sample of a tar as one row: the values of its JSON, its text, and its images.

    The image is under ``image`` and under its own suffix, numbered references under ``references``.

    Raises:
        OSError: The tar cannot be read.
    """
    stem = re.sub(r"\.(tar|tgz)(\.gz)?$", "", archive.name)
    yield from _failed_downloads(archive, stem)
    key: str | None = None
    group: dict[str, Member] = {}
    for each in members(archive, scratch):
        if isinstance(each, BadRow):
            yield BadSampleError(each.reason, each.message), each.native_id
            continue
        folder, _, base = each.name.rpartition("/")
        start, _, suffix = base.partition(".")
        own = f"{folder}/{start}".lstrip("/")
        if own != key or suffix.lower() in group:
            if key is not None:
                yield _row(key, group), f"{stem}/{key}"
            key, group = own, {}
        group[suffix.lower()] = each
    if key is not None:
        yield _row(key, group), f"{stem}/{key}"


def _row(key: str, group: dict[str, Member]) -> Any:
    try:
        return {**_fields(group), KEY: key}
    except BadSampleError as error:
        return error


def _fields(group: dict[str, Member]) -> dict[str, Any]:
    """The fields of a sample.

    Raises:
        BadSampleError: A text of it cannot be read.
    """
    row: dict[str, Any] = {}
    if "json" in group:
        try:
            values = parse_json(group["json"].read(MAX_TEXT_BYTES))
        except ValueError as error:
            raise BadSampleError("row", f"{group['json'].name} is not JSON ({error})") from None
        if not isinstance(values, dict):
            raise BadSampleError("row", f"{group['json'].name} holds no object")
        row |= values
    references: dict[int, Any] = {}
    images = []
    for suffix, member in group.items():
        numbered = REFERENCE.fullmatch(suffix)
        if suffix in TEXTS:
            try:
                text = member.read(MAX_TEXT_BYTES).decode("utf-8-sig").strip()
            except UnicodeDecodeError:
                raise BadSampleError("row", f"{member.name} is not UTF-8") from None
            row["txt" if suffix == "text" else suffix] = text
        elif numbered:
            references[int(numbered[1])] = member.span
        elif f".{suffix.rpartition('.')[2]}" in IMAGE_SUFFIXES:
            row[suffix] = member.span
            images.append(member.span)
    if len(images) == 1:
        row[IMAGE] = images[0]
    if references:
        row[REFERENCES] = [each for _, each in sorted(references.items())]
    return row


def _failed_downloads(archive: Archive, stem: str) -> Iterator[TarRow]:
    """Rows that img2dataset could not download: it lists all in a Parquet file beside each tar.

    Raises:
        DataError: That file is damaged.
    """
    path = archive.files[0].with_suffix(".parquet")
    if not path.is_file():
        return
    try:
        with open_regular(path) as opened, pq.ParquetFile(opened) as file:
            names = [
                each
                for each in ("key", "url", "status", "error_message")
                if each in file.schema_arrow.names
            ]
            if "status" not in names:
                return
            for batch in file.iter_batches(columns=names):
                for row in batch.to_pylist():
                    if row["status"] != "success":
                        why = f"{row.get('url')} {row['status']} ({row.get('error_message')})"
                        yield BadSampleError("dead_url", why), f"{stem}/{row.get('key')}"
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is damaged ({error}); delete it, or download again") from None
