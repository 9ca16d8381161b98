"""Scores that others published, by our names of metrics and categories.

A number belongs to a benchmark, a protocol and a judge together. So each benchmark's folder holds
its tables (``published.py``), every table names its source and judge, and a run is compared with
those of its own protocol only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

DEEPGEN_PAPER = "DeepGen paper, arXiv 2602.12205"
UNSTATED = "not stated in the paper, presumably the benchmark's official one: "
"""The paper does not name its judges; the official ones are the likely reading."""
ABSENT = "-"

Column = tuple[str, str | None]
"""A metric and one of its categories; None is the metric as a whole."""


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

    def cell(self, metric: str, category: str | None = None) -> Cell | None:
        """The number of a metric or of one of its categories, if it was reported."""
        for cell in self.cells:
            if (cell.metric, cell.category) == (metric, category):
                return cell
        return None


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


def published_table(
    text: str,
    columns: Mapping[str, Column],
    *,
    judge: str,
    accepted: tuple[str, ...],
    source: str = DEEPGEN_PAPER,
    remarks: Sequence[str] = (),
    marks: Mapping[str, str] | None = None,
) -> PublishedTable:
    """A table from its text: a header line, then one line a model, cells separated by ``|``.

    Args:
        text: Digits as printed, because they say how far a number can be trusted; a dash for what
            was not reported; a letter in brackets points to one of ``marks``.
        columns: From headings of the text to metrics; the first metric is shown as bars.
        marks: Remarks on single rows, by their letters.
    """
    header, *lines = [
        [each.strip() for each in line.split("|")] for line in text.strip().splitlines()
    ]
    rows = [
        _row(model, dict(zip(header[1:], texts, strict=True)), columns, marks or {})
        for model, *texts in lines
    ]
    return PublishedTable(
        source=source,
        judge=judge,
        accepted=accepted,
        metric=next(iter(columns.values()))[0],
        rows=tuple(row for row in rows if row.cells),
        remarks=tuple(remarks),
    )


def _row(
    model: str, texts: Mapping[str, str], columns: Mapping[str, Column], marks: Mapping[str, str]
) -> Row:
    cells, remarks = [], []
    for heading, (metric, category) in columns.items():
        number, _, mark = texts[heading].partition(" (")
        if number == ABSENT:
            continue
        if mark:
            remarks.append(marks[mark.removesuffix(")")])
        cells.append(Cell(metric=metric, category=category, printed=number, value=float(number)))
    return Row(
        model=model,
        parameters=PARAMETERS.get(model),
        cells=tuple(cells),
        remarks=tuple(dict.fromkeys(remarks)),
    )


def headings(metric: str, categories: Mapping[str, str | None]) -> dict[str, Column]:
    """Columns of one metric, from headings to its categories."""
    return {heading: (metric, category) for heading, category in categories.items()}


def dated(model: str) -> tuple[str, str]:
    """Patterns of a model's name alone, and with a date; no smaller sibling of it."""
    return model, f"{model}-20[0-9][0-9]-[0-9][0-9]-[0-9][0-9]"


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
