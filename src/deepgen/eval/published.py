"""Scores that others published, by our names of metrics and categories.

A number belongs to a benchmark, a protocol and a judge together. So each benchmark's folder has
its tables in ``published.yaml``, every table names its source and judge, and a run is compared with
those of its own protocol only. An entry of that file is a table:

- ``variants``: the benchmarks under whose protocol it stands; without, all of the folder.
- ``source`` (the DeepGen paper by default), ``judge``, ``accepted``, ``remarks``: as in
  :class:`PublishedTable`. The paper does not name its judges; the official ones are the likely
  reading.
- ``columns``: from headings of the rows to a metric, or to ``metric/category``; the first metric is
  shown as bars.
- ``rows``: a header line, then one line a model. Digits stand as printed, because they say how far
  a number can be trusted; a dash is what was not reported; a letter in brackets points to one of
  ``marks``, remarks on single rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import yaml

DEEPGEN_PAPER = "DeepGen paper, arXiv 2602.12205"
ABSENT = "-"


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One number as it was printed."""

    metric: str
    category: str | None
    printed: str
    value: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What a table reports of one model."""

    model: str
    parameters: str | None
    """As published; None where unknown."""
    cells: tuple[Cell, ...]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedTable:
    """Rows of one source under one protocol."""

    source: str
    judge: str
    """Who judged, or that it is not stated."""
    accepted: tuple[str, ...]
    """Patterns (``fnmatch``) of the names that this judge has in ``scorer.json``, in lower case."""
    metric: str
    """The one shown as bars."""
    rows: tuple[Row, ...]
    remarks: tuple[str, ...] = ()


@cache
def published_tables(benchmark: str) -> tuple[PublishedTable, ...]:
    """The tables of a benchmark's protocol, in the order of its folder's ``published.yaml``."""
    family = benchmark.partition("/")[0]
    file = files("deepgen.eval") / "benchmarks" / family / "published.yaml"
    if not file.is_file():
        return ()
    # The package's own files, whose tables of one source share what they say of it by aliases.
    entries = yaml.safe_load(file.read_text(encoding="utf-8"))
    chosen = [each for each in entries if benchmark in each.pop("variants", [benchmark])]
    return tuple(_table(**each) for each in chosen)


def _table(
    *,
    judge: str,
    accepted: Sequence[str],
    columns: Mapping[str, str],
    rows: str,
    source: str = DEEPGEN_PAPER,
    remarks: Sequence[str] = (),
    marks: Mapping[str, str] | None = None,
) -> PublishedTable:
    header, *lines = [[cell.strip() for cell in line.split("|")] for line in rows.splitlines()]
    found = [
        _row(model, dict(zip(header[1:], texts, strict=True)), columns, marks or {})
        for model, *texts in lines
    ]
    return PublishedTable(
        source=source,
        judge=judge,
        accepted=tuple(accepted),
        metric=next(iter(columns.values())).partition("/")[0],
        rows=tuple(row for row in found if row.cells),
        remarks=tuple(remarks),
    )


def _row(
    model: str, texts: Mapping[str, str], columns: Mapping[str, str], marks: Mapping[str, str]
) -> Row:
    cells, remarks = [], []
    for heading, column in columns.items():
        number, _, mark = texts[heading].partition(" (")
        if number == ABSENT:
            continue
        if mark:
            remarks.append(marks[mark.removesuffix(")")])
        metric, _, category = column.partition("/")
        cells.append(
            Cell(metric=metric, category=category or None, printed=number, value=float(number))
        )
    return Row(
        model=model,
        parameters=PARAMETERS.get(model),
        cells=tuple(cells),
        remarks=tuple(dict.fromkeys(remarks)),
    )


PARAMETERS = {
    "DeepGen 1.0 SFT": "3B + 2B",
    "DeepGen 1.0 RL": "3B + 2B",
    "DeepGen 1.0": "3B + 2B",
    "Janus-Pro 7B": "7B",
    "Janus-Pro": "7B",
    "BAGEL": "14B",
    "BAGEL (thinking)": "14B",
    "Lumina-DiMOO": "8B",
    "Hunyuan-Image-3.0": "80B",
    "FLUX.1-dev": "12B",
    "FLUX.1 Kontext dev": "12B",
    "Z-Image-Turbo": "6B",
    "Qwen-Image": "20B",
    "Qwen-Image / -Edit 2509": "20B",
    "Qwen-Image-Edit 2509": "20B",
    "GLM-Image": "9B + 7B",
}
"""As the makers of each model state them, understanding + generation where they tell them apart.
FLUX.1, Qwen-Image and Z-Image state their transformer alone, so their text encoders come on top.
None was counted here; those of other models were not looked up."""
