"""Counts of a data set as the commands print them: names and numbers in two columns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepgen.cli.console import aligned, print_line, print_result

if TYPE_CHECKING:
    from deepgen.data.importing import ImportReport

Counts = list[tuple[str, int | str]]


def print_columns(title: str, lines: Counts) -> None:
    """Names and numbers in two columns."""
    rows = [(name, f"{value:,}" if isinstance(value, int) else value) for name, value in lines]
    print_result("\n".join([title, *aligned(rows)]))


def indented(counts: Mapping[Any, int]) -> Counts:
    """Counts as lines below the line that they belong to."""
    return [(f"  {name}", value) for name, value in counts.items()]


def print_report(folder: Path, report: ImportReport, *, as_json: bool) -> None:
    """Print what an import made of its rows."""
    from deepgen.data.dataset import QUARANTINE

    if as_json:
        print_result(json.dumps({"path": str(folder), **asdict(report)}))
        return
    lines: Counts = [("rows", report.rows), ("samples", report.samples)]
    lines += indented(report.tasks)
    lines += [("quarantined", sum(report.quarantined.values()))]
    lines += [*indented(report.quarantined), ("shards", report.shards)]
    print_columns(str(folder), lines)
    if report.quarantined:
        print_line(f"every reason is in {folder / QUARANTINE}")
