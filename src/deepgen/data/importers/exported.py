"""What ``deepgen data export`` wrote, taken back without loss: images to the byte, all fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from deepgen.data.exporting import FACTS, METADATA
from deepgen.data.importers.archives import Archive, is_compressed, members, read_span
from deepgen.data.importers.source import (
    BadRow,
    BadSampleError,
    ImageSource,
    Provenance,
    RawSample,
    Source,
    SourceOptions,
    check_relative,
)
from deepgen.data.importers.table import TableSource
from deepgen.data.records import PromptVariant, Row
from deepgen.errors import DataError
from deepgen.images.io import max_file_bytes
from deepgen.reading import MAX_TEXT_BYTES, open_regular, parse_json

PARQUET_ROWS = 16
"""Rows read at a time; they contain images."""


class Facts(Row):
    """All of a record but where its images are; see ``exporting``."""

    sample_id: str
    source: str
    source_rev: str
    task: str
    skills: list[str]
    prompts: list[PromptVariant]
    reasoning: str | None
    render_text: list[str]
    licence: str
    redistributable: bool
    split: str
    urls: list[str | None]


class ExportedSource(Source):
    """Rows with all fields, from any of the three forms."""

    def __init__(self, path: Path) -> None:
        self.root = path
        self.metadata = path / METADATA
        self.tars = sorted(path.glob("*.tar"))
        self.tables = sorted(path.glob("*.parquet"))
        forms = [self.metadata.is_file(), bool(self.tars), bool(self.tables)]
        if sum(forms) != 1:
            raise DataError(
                f"{path} is not what deepgen data export wrote: expected tars, Parquet files or a "
                f"{METADATA}, found {'several of them' if any(forms) else 'none'}; other sets are "
                "read by the importers webdataset, table and folder"
            )

    def rows(self) -> Iterator[RawSample | BadRow]:
        """All samples, in the order in which they were exported."""
        if self.tars:
            return (row for path in self.tars for row in _from_tar(path))
        if self.tables:
            return (row for path in self.tables for row in _from_parquet(path))
        return self._from_folder()

    def _from_folder(self) -> Iterator[RawSample | BadRow]:
        for number, row in enumerate(TableSource(self.metadata).raw_rows()):
            if not isinstance(row, dict):
                yield BadRow(native_id=f"{number:09d}", reason="row", message=str(row))
                continue
            negative = row.get("negative_file_name")
            images = [row.get("file_name"), *(row.get("references_file_names") or [])]
            urls = [None] * (len(images) + (negative is not None))
            # What is empty is not written.
            row = {"skills": [], "render_text": [], "urls": urls, **row}
            yield _sample(f"{number:09d}", row, images, negative)


def open_source(path: Path, options: SourceOptions) -> ExportedSource:
    """The folder of an export; it takes no options.

    Raises:
        DataError: It is something else.
    """
    # The command always states a folder for unpacked archives; exports need none.
    if replace(options, scratch=None) != SourceOptions():
        raise ValueError("what was exported states all of its fields; omit the options")
    if not path.is_dir():
        raise DataError(f"there is no folder {path}; check the path")
    return ExportedSource(path)


def _sample(
    name: str, row: Mapping[str, Any], images: list[Any], negative: Any
) -> RawSample | BadRow:
    """A sample from the facts of a row and its images."""
    try:
        facts = Facts.model_validate({key: row.get(key) for key in (*FACTS, "urls")})
        found = [_image(each) for each in images]
        rejected = None if negative is None else _image(negative)
        wanted = len(found) + (rejected is not None)
        if (facts.task == "edit") != (len(found) > 1) or len(facts.urls) != wanted:
            raise BadSampleError("row", f"a sample of task {facts.task} with {len(found)} images")
        if facts.split not in ("train", "val") or not facts.prompts:
            raise BadSampleError("row", f"split {facts.split}, {len(facts.prompts)} prompts")
    except BadSampleError as error:
        return BadRow(native_id=name, reason=error.reason, message=str(error))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(each) for each in first["loc"])
        return BadRow(native_id=name, reason="row", message=f"{place}: {first['msg']}")
    return RawSample(
        native_id=name,
        prompts=tuple(facts.prompts),
        target=found[0],
        references=tuple(found[1:]),
        negative_target=rejected,
        reasoning=facts.reasoning,
        skills=tuple(facts.skills),
        render_text=tuple(facts.render_text),
        licence=facts.licence,
        redistributable=facts.redistributable,
        provenance=Provenance(
            sample_id=facts.sample_id,
            source=facts.source,
            source_rev=facts.source_rev,
            split="val" if facts.split == "val" else "train",
            urls=tuple(facts.urls),
        ),
    )


def _image(value: Any) -> ImageSource:
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise BadSampleError("missing", "an image is missing")
    check_relative(value)
    return value


def _from_parquet(path: Path) -> Iterator[RawSample | BadRow]:
    try:
        with open_regular(path) as opened, pq.ParquetFile(opened) as file:
            number = 0
            for batch in file.iter_batches(batch_size=PARQUET_ROWS):
                for row in batch.to_pylist():
                    images = [row.get("image"), *(row.get("references") or [])]
                    contents = [each and each.get("bytes") for each in images]
                    negative = row.get("negative")
                    rejected = negative and negative.get("bytes")
                    yield _sample(f"{path.stem}/{number:09d}", row, contents, rejected)
                    number += 1
    except (pa.ArrowException, OSError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path} cannot be read ({reason}); export again") from None


def _from_tar(path: Path) -> Iterator[RawSample | BadRow]:
    """The samples of a tar, one after the other; a row for everything in it that is no file."""
    archive = Archive(name=path.name, files=(path,))
    content: dict[str, bytes] = {}
    key = ""
    try:
        if is_compressed(archive):
            raise DataError(f"{path} is compressed, exports are not; unpack it, or export again")
        # Nothing is unpacked, so nothing is written beside it.
        for member in members(archive, path.parent):
            if isinstance(member, BadRow):
                yield member
                continue
            own, _, role = member.name.partition(".")
            if own != key and content:
                yield _from_members(f"{path.stem}/{key}", content)
                content = {}
            key = own
            limit = MAX_TEXT_BYTES if role in ("txt", "json") else max_file_bytes()
            # One byte more than allowed, which the reader of images then refuses.
            span = member.span
            content[role] = read_span(replace(span, length=min(span.length, limit + 1)))
    except OSError as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path} cannot be read ({reason}); export again") from None
    if content:
        yield _from_members(f"{path.stem}/{key}", content)


def _from_members(name: str, members: Mapping[str, bytes]) -> RawSample | BadRow:
    try:
        facts = parse_json(members["json"].decode())
    except (KeyError, ValueError) as error:
        return BadRow(native_id=name, reason="row", message=f"no JSON of the sample ({error})")
    if not isinstance(facts, dict):
        return BadRow(native_id=name, reason="row", message="the JSON holds no named values")
    roles = {role.partition(".")[0]: role for role in members if "." in role}
    plain = next((role for role in members if "." not in role and role not in ("txt", "json")), "")
    references = sorted(
        (each for each in roles if each.startswith("reference")), key=lambda each: (len(each), each)
    )
    images = [members.get(plain), *(members[roles[each]] for each in references)]
    return _sample(name, facts, images, members[roles["negative"]] if "negative" in roles else None)
