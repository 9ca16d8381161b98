"""Reading prompt files as their authors publish them; complaints name file and row."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from deepgen import reading
from deepgen.errors import BenchmarkError, MissingPromptsError, reason_of
from deepgen.eval.benchmark import Item, Json

MAX_FILE_BYTES = 256 << 20
"""The lists of training prompts that contamination is searched in are the largest."""


def find_file(folder: Path, *candidates: str) -> Path | None:
    """The first of several possible places that exists."""
    paths = (folder / candidate for candidate in candidates)
    return next((path for path in paths if path.is_file()), None)


def require_file(folder: Path, *candidates: str) -> Path:
    """The first of several possible places that exists.

    Raises:
        MissingPromptsError: None of them does.
    """
    found = find_file(folder, *candidates)
    if found is None:
        raise MissingPromptsError(
            f"{folder} has no {candidates[0]}; fetch the prompts with deepgen eval fetch, or name "
            "the folder that holds them with --data"
        )
    return found


def read_text(path: Path) -> str:
    """A whole file as text, without a byte order mark."""
    try:
        return reading.read_text(path, limit=MAX_FILE_BYTES)
    except OSError as cause:
        raise BenchmarkError(f"{path} cannot be read: {cause.strerror}; check the path") from cause
    except UnicodeDecodeError as cause:
        raise BenchmarkError(f"{path} cannot be read: {reason_of(cause)}") from cause


def read_json(path: Path) -> Json:
    """A whole JSON file."""
    return parse_json(read_text(path), str(path))


def read_json_lines(path: Path) -> Iterator[tuple[str, Json]]:
    """Place ("file, line 3") and content of every line that is not blank."""
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            place = f"{path}, line {number}"
            yield place, parse_json(line, place)


def read_json_list(path: Path) -> Iterator[tuple[str, Json]]:
    """Place ("file, entry 3") and content of every entry of a JSON list."""
    listed = read_json(path)
    if not isinstance(listed, list):
        raise BenchmarkError(f"{path}: expected a list, found {type(listed).__name__}")
    for number, entry in enumerate(listed, start=1):
        yield f"{path}, entry {number}", entry


def read_json_entries(path: Path) -> Iterator[tuple[str, str, Json]]:
    """Place ("file, entry KEY"), key and content of every entry of a JSON object."""
    for key, entry in require_fields(read_json(path), str(path)).items():
        yield f"{path}, entry {key}", key, entry


def read_csv(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Place ("file, row 3", not counting the header) and columns of every row."""
    # Through StringIO and not splitlines: quoted cells may hold line breaks.
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), strict=True)
    number = 0
    try:
        for number, row in enumerate(reader, start=1):
            if None in row or None in row.values():
                raise BenchmarkError(
                    f"{path}, row {number}: expected {len(reader.fieldnames or ())} columns as in "
                    "the header; fetch the file again"
                )
            yield f"{path}, row {number}", row
    except csv.Error as cause:
        raise BenchmarkError(f"{path}, row {number + 1}: {cause}; fetch the file again") from cause


def parse_json(text: str, place: str) -> Json:
    """JSON text that stands at a place."""
    try:
        return reading.parse_json(text)
    except ValueError as cause:
        raise BenchmarkError(
            f"{place}: not valid JSON ({cause}); correct the file, or fetch it again"
        ) from cause


def require_fields(row: Json, place: str, **fields: type | tuple[type, ...]) -> Mapping[str, Json]:
    """A row as a mapping whose named fields are there and of the named types."""
    if not isinstance(row, Mapping):
        raise BenchmarkError(f"{place}: expected an object, found {type(row).__name__}")
    for name, kinds in fields.items():
        if name not in row:
            raise BenchmarkError(f"{place}: the field {name!r} is missing")
        # True is an int to Python, but not to the authors of prompt files.
        if not isinstance(row[name], kinds) or (isinstance(row[name], bool) and kinds is int):
            raise BenchmarkError(f"{place}: the field {name!r} is of another kind: {row[name]!r}")
    return row


def require_unique(items: Sequence[Item], place: Path) -> tuple[Item, ...]:
    """The items, whose ids all differ."""
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise BenchmarkError(f"{place}: the id {item.id} occurs twice; fetch the file again")
        seen.add(item.id)
    return tuple(items)


PROMPT_KEYS = ("prompt", "instruction", "caption", "text")
"""Where training lists keep their prompts; the first one that a row has counts."""


def read_prompt_list(path: Path) -> list[str]:
    """Prompts of a training list: lines of text, lines of JSON, or one JSON list.

    A row of JSON is a string, an object with a prompt, or one with ``prompts`` that have a text.
    """
    if path.suffix == ".jsonl":
        rows = list(read_json_lines(path))
    elif path.suffix == ".json":
        rows = list(read_json_list(path))
    else:
        return [line.strip() for line in read_text(path).split("\n") if line.strip()]
    return [prompt for place, row in rows for prompt in _prompts_of(row, place)]


def _prompts_of(row: Json, place: str) -> list[str]:
    if isinstance(row, str):
        return [row]
    if isinstance(row, Mapping):
        if isinstance(row.get("prompts"), list):
            return [each for prompt in row["prompts"] for each in _prompts_of(prompt, place)]
        for key in PROMPT_KEYS:
            if isinstance(row.get(key), str):
                return [row[key]]
    raise BenchmarkError(
        f"{place}: no prompt found; expected a string, or an object with one of "
        f"{', '.join(PROMPT_KEYS)}"
    )
