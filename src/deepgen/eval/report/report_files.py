"""The files of a report: JSON, Markdown, CSV of a single run, and the page with images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deepgen.eval.report.page import pair_page, run_page
from deepgen.eval.report.results import Report, to_csv, to_json, to_markdown
from deepgen.eval.run.stored import StoredRun
from deepgen.images.io import atomic_file


def write_report(
    report: Report, folder: Path, *, runs: Sequence[StoredRun], stem: str = "report"
) -> Sequence[Path]:
    """Write the report of one run or of a pair into a folder, and return where.

    Args:
        runs: What the report was made of; the page takes its images from there.
    """
    texts = {".json": to_json(report), ".md": to_markdown(report)}
    if "differences" in report:
        first, second = runs
        texts[".html"] = pair_page(report, first, second)
    else:
        (run,) = runs
        texts[".csv"] = to_csv(report)
        texts[".html"] = run_page(report, run)
    written = []
    for suffix, text in texts.items():
        path = folder / f"{stem}{suffix}"
        with atomic_file(path, overwrite=True) as part:
            part.write_text(text, encoding="utf-8")
        written.append(path)
    return written
