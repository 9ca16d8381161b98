"""Bars of a page: published scores and those of the reported runs, on the benchmark's own scale.

Only scores of one metric, protocol and judge share a chart: a run with another judge has one of its
own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deepgen.eval.benchmark import Benchmark, Number
from deepgen.eval.report.published import find_cell
from deepgen.eval.report.results import Report, has_result, remarks_of, shown

DEEPGEN = "DeepGen"
"""Begins the names of the models that this project rebuilds."""

Table = Mapping[str, Any]
"""A published table as the report holds it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """One score, with places in percent of the scale's width."""

    name: str
    kind: str
    """``ours``, ``deepgen`` or ``other``."""
    score: str
    detail: str = ""
    """Parameters of a published model; how much of the benchmark a run is."""
    width: float | None = None
    """None where there is no score."""
    interval: str = ""
    start: float = 0.0
    """Where the interval begins."""
    reach: float = 0.0
    """How wide the interval is."""
    marked: bool = False
    """Whether a remark below the chart is about this row."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """Scores of one metric, from the best to the worst."""

    source: str
    judge: str
    metric: str
    low: str
    """The worst score, where bars begin."""
    high: str
    bars: tuple[Bar, ...]
    remarks: tuple[str, ...]
    headings: tuple[str, ...]
    """Column headings of all that was published, where that is more than the bars."""
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    apart: tuple[str, ...]
    """Why runs are not among these bars, a sentence each."""


def scale_of(benchmark: Benchmark) -> tuple[Number, Number]:
    """Where bars of a benchmark's main metric begin and end: its worst and its best score."""
    bounds = benchmark.metrics[0].bounds
    assert bounds is not None, f"the main metric of {benchmark.name} has no scale"
    return bounds


def place(value: Number, scale: tuple[Number, Number]) -> float:
    """Percent of the way from the worst to the best score."""
    low, high = scale
    return round(100 * min(1.0, max(0.0, (value - low) / (high - low))), 2)


def charts(benchmark: Benchmark, reports: Mapping[str, Report]) -> Iterator[Chart]:
    """A chart for each published table, preceded by one of the runs where some are not comparable.

    Args:
        reports: By the names that the runs have in the page.
    """
    (first, *_) = reports.values()
    tables: Sequence[Table] = first["published"]["tables"]
    scale = scale_of(benchmark)
    reasons = [
        {
            name: each["published"]["tables"][place]["not_comparable"]
            for name, each in reports.items()
        }
        for place in range(len(tables))
    ]
    if not tables or any(any(each.values()) for each in reasons):
        yield _chart(benchmark, benchmark.metrics[0].name, scale, reports, None)
    for table, why in zip(tables, reasons, strict=True):
        comparable = {name: each for name, each in reports.items() if not why[name]}
        apart = tuple(
            f"{name} is not comparable with these. {text}" for name, text in why.items() if text
        )
        yield _chart(benchmark, table["metric"], scale, comparable, table, apart)


def _chart(
    benchmark: Benchmark,
    metric: str,
    scale: tuple[Number, Number],
    reports: Mapping[str, Report],
    table: Table | None,
    apart: tuple[str, ...] = (),
) -> Chart:
    ranked = [_ours(benchmark, metric, scale, name, each) for name, each in reports.items()]
    for row in table["rows"] if table else ():
        cell = find_cell(row, metric)
        if cell is not None:
            bar = Bar(
                name=row["model"],
                kind="deepgen" if row["model"].startswith(DEEPGEN) else "other",
                score=cell["printed"],
                detail=row["parameters"] or "",
                width=place(cell["value"], scale),
                marked=bool(row["remarks"]),
            )
            ranked.append((cell["value"], bar))
    # A run without a score comes first, so that it is not overlooked.
    ranked.sort(key=lambda each: float("-inf") if each[0] is None else -each[0])
    headings, rows = _as_published(table)
    low, high = scale
    return Chart(
        source=table["source"] if table else "",
        judge=table["judge"] if table else "",
        metric=metric,
        low=f"{low:g}",
        high=f"{high:g}",
        bars=tuple(bar for _, bar in ranked),
        remarks=tuple(remarks_of(table)) if table else (),
        headings=headings,
        rows=rows,
        apart=apart,
    )


def _ours(
    benchmark: Benchmark, metric: str, scale: tuple[Number, Number], name: str, report: Report
) -> tuple[float | None, Bar]:
    """The bar of a run; one that is not done or incomplete has no length."""
    detail = f"{report['prompts']:,} prompts" if report["subset"] else ""
    value = report["rules"]["strict"]["metrics"][metric] if has_result(report) else None
    if value is None:
        why = "a part is missing"
        if not has_result(report):
            why = "not done" if report["state"] != "done" else "incomplete"
        return None, Bar(name=name, kind="ours", score="no score", detail=detail, interval=why)
    digits = benchmark.metric(metric).digits
    interval = report["intervals"][metric]
    start, end = place(interval["low"], scale), place(interval["high"], scale)
    return value, Bar(
        name=name,
        kind="ours",
        score=shown(value, digits),
        detail=detail,
        width=place(value, scale),
        interval=f"{shown(interval['low'], digits)} to {shown(interval['high'], digits)}",
        start=start,
        reach=round(end - start, 2),
    )


def _as_published(
    table: Table | None,
) -> tuple[tuple[str, ...], tuple[tuple[str, tuple[str, ...]], ...]]:
    """All columns of a table that has more than its bars show."""
    spots = list(
        dict.fromkeys(
            (cell["metric"], cell["category"])
            for row in (table["rows"] if table else ())
            for cell in row["cells"]
        )
    )
    if table is None or len(spots) < 2:
        return (), ()
    headings = tuple(category or metric for metric, category in spots)
    rows = tuple(
        (
            row["model"],
            tuple(
                cell["printed"] if (cell := find_cell(row, *spot)) else "not reported"
                for spot in spots
            ),
        )
        for row in table["rows"]
    )
    return headings, rows
