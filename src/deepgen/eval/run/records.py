"""The records of a run: ``scores.jsonl``, one line an image."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from deepgen.config.decoding import decode
from deepgen.errors import BenchmarkError
from deepgen.eval.benchmark import ImageRecord
from deepgen.eval.run.folder import ImageEntry, ImageKey
from deepgen.reading import MAX_LINES_BYTES, parse_json, read_bytes

RECORDS = "scores.jsonl"


def write_record(folder: Path, record: ImageRecord, sha256: str) -> None:
    """Append the record of the image with this hash, in one write."""
    line = json.dumps({**asdict(record), "sha256": sha256})
    with (folder / RECORDS).open("ab", buffering=0) as file:
        # The line break first: an incomplete line of a killed scorer must not swallow this one.
        file.write(f"\n{line}".encode())


def read_records(path: Path) -> list[tuple[ImageRecord, str]]:
    """Records and the hashes of their images; an incomplete line of a killed scorer is ignored.

    Raises:
        BenchmarkError: A line is something else.
    """
    records = []
    lines = read_bytes(path, limit=MAX_LINES_BYTES).split(b"\n") if path.is_file() else []
    for number, line in enumerate(lines, start=1):
        try:
            values = parse_json(line)
        except ValueError:
            continue
        try:
            record, sha256 = _decode(values)
        except ValueError as cause:
            raise BenchmarkError(
                f"{path}, line {number}: not a record of an image ({cause}); delete the line, and "
                "the image counts as missing"
            ) from None
        records.append((record, sha256))
    return records


def _decode(values: object) -> tuple[ImageRecord, str]:
    if not isinstance(values, Mapping) or not isinstance(values.get("sha256"), str):
        raise ValueError("it has no sha256")
    others = {name: value for name, value in values.items() if name != "sha256"}
    return decode(ImageRecord, others), values["sha256"]


def latest_records(
    path: Path, images: Mapping[ImageKey, ImageEntry]
) -> dict[ImageKey, ImageRecord]:
    """The latest record of each image in its current state, in the order of the images."""
    latest = {
        (record.item, record.image_index): record
        for record, sha256 in read_records(path / RECORDS)
        if (record.item, record.image_index) in images
        and images[record.item, record.image_index].sha256 == sha256
    }
    return {image: latest[image] for image in images if image in latest}
