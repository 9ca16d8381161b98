"""From the stored records of one run, or a pair, to a report: JSON, CSV and Markdown.

``page.py`` makes the page with images, and ``report_files.py`` writes them all.

A report is a function of the run's files alone: equal runs have equal reports but for the time of
writing. What is missing is reported, never estimated.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from deepgen.errors import BenchmarkError
from deepgen.eval.aggregation import ScoreTable, aggregate, score_table
from deepgen.eval.benchmark import Benchmark, Rule
from deepgen.eval.registry import find_benchmark
from deepgen.eval.report.escaping import csv_cell, markdown
from deepgen.eval.report.published import describe_published, find_cell
from deepgen.eval.report.statistics import LEVEL, bootstrap, compare
from deepgen.eval.report.warnings import report_warnings
from deepgen.eval.run.stored import StoredRun

RULES: tuple[Rule, ...] = ("strict", "official", "pessimistic")
COLUMNS = (
    *("benchmark", "model", "weights", "seed", "versions", "state", "failed", "rule", "metric"),
    *("category", "value", "low", "high", "coverage"),
)
WRITTEN = "written"
"""The one field in which the reports of equal runs differ."""

Report = dict[str, Any]
"""What ``json.dumps`` takes."""


def describe(run: StoredRun, written: str) -> Report:
    """The report of a run: scores under every rule, coverage, failures, model, scorer and settings.

    A run that is not done has no overall score under any rule.

    Args:
        written: When, as text.
    """
    records = run.records.values()
    all_scores = {rule: aggregate(run.benchmark, run.items, records, rule) for rule in RULES}
    rules = {
        rule: {
            "overall": scores.overall if run.done else None,
            "metrics": scores.metrics,
            "categories": scores.categories,
        }
        for rule, scores in all_scores.items()
    }
    strict = all_scores["strict"]
    intervals = bootstrap(run.benchmark, run.items, records) if records else {}
    return {
        "benchmark": run.benchmark.name,
        "title": run.benchmark.title,
        "state": "done" if run.done else "not done",
        "images": {
            "expected": run.expected,
            "generated": len(run.images),
            "evaluated": len(run.records),
        },
        "prompts": len(run.items),
        "subset": strict.subset,
        "incomplete": strict.incomplete,
        "coverage": strict.coverage,
        "coverage_by_category": strict.coverage_by_category,
        "counts": strict.counts,
        "rules": rules,
        "intervals": {name: asdict(interval) for name, interval in intervals.items()},
        "failures": [
            {
                "item": each.item,
                "image_index": each.image_index,
                "status": each.status,
                "reason": each.reason,
            }
            for each in run.records.values()
            if each.status != "scored"
        ],
        "source": f"{run.benchmark.source.repository}@{run.benchmark.source.commit}",
        "official_judge": run.benchmark.judge,
        "scorer": dict(run.scorer.identity),
        "notes": [*run.benchmark.notes, *run.notes, *run.scorer.notes],
        "published": describe_published(run.benchmark, run.scorer.identity),
        "run": asdict(run.manifest),
        WRITTEN: written,
    }


def describe_pair(first: StoredRun, second: StoredRun, written: str) -> Report:
    """The second run minus the first: every metric with a paired test, and item by item.

    Raises:
        BenchmarkError: They are of different benchmarks or prompts, or share no scored prompt.
    """
    if (first.benchmark.name, first.manifest.prompts_sha256) != (
        second.benchmark.name,
        second.manifest.prompts_sha256,
    ):
        raise BenchmarkError(
            f"a run of {first.benchmark.name} over {len(first.items)} prompts cannot be compared "
            f"with one of {second.benchmark.name} over {len(second.items)}; generate the same "
            "prompts"
        )
    benchmark, items = first.benchmark, first.items
    differences = compare(benchmark, items, first.records.values(), second.records.values())
    before, after = (
        _by_item(benchmark, score_table(benchmark, items, run.records.values()))
        for run in (first, second)
    )
    return {
        "benchmark": benchmark.name,
        "state": "done" if first.done and second.done else "not done",
        "first": describe(first, written),
        "second": describe(second, written),
        "differences": {name: asdict(each) for name, each in differences.items()},
        "items": [
            {
                "item": item.id,
                "category": item.category,
                "first": before.get(item.id),
                "second": after.get(item.id),
            }
            for item in items
        ],
        WRITTEN: written,
    }


def _by_item(benchmark: Benchmark, table: ScoreTable) -> dict[str, float]:
    """The main metric's score of each prompt alone, where it has one."""
    name = benchmark.metrics[0].name
    mine = [index for index, (metric, _) in enumerate(table.columns) if metric == name]
    amounts, weights = table.amounts[:, mine].sum(axis=1), table.weights[:, mine].sum(axis=1)
    return {
        table.items[index].id: float(amounts[index] / weights[index])
        for index in np.flatnonzero(weights > 0)
    }


def to_json(report: Report) -> str:
    """The report in full precision."""
    return json.dumps(report, indent=1, ensure_ascii=False) + "\n"


def to_csv(report: Report) -> str:
    """One row for each metric and category under each rule, in full precision."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    manifest = report["run"]
    table.writerow(COLUMNS)

    def write(*cells: Any) -> None:
        table.writerow([csv_cell(each) if isinstance(each, str) else each for each in cells])

    start = [
        report["benchmark"],
        manifest["model"],
        manifest["weights_sha256"],
        manifest["base_seed"],
    ]
    start += [_versions(report), report["state"], len(report["failures"])]
    for rule, scores in report["rules"].items():
        for metric, value in scores["metrics"].items():
            # Intervals are those of the strict rule.
            interval = report["intervals"].get(metric, {}) if rule == "strict" else {}
            limits = [interval.get("low"), interval.get("high")]
            write(*start, rule, metric, "", value, *limits, report["coverage"])
            for category, part in scores["categories"][metric].items():
                covered = report["coverage_by_category"].get(category)
                write(*start, rule, metric, category, part, None, None, covered)
    return out.getvalue()


def to_markdown(report: Report) -> str:
    """The report for people, rounded as the benchmark's authors do."""
    if "differences" in report:
        return _pair_to_markdown(report)
    manifest, strict = report["run"], report["rules"]["strict"]
    benchmark = find_benchmark(report["benchmark"])
    lines = [f"# {report['title']}: {markdown(manifest['model'])}", ""]
    lines += _to_lines(report_warnings(report, benchmark))
    lines += [f"| metric | score | {LEVEL:.0%} interval |", "|---|---:|---|"]
    for metric in benchmark.metrics:
        interval = report["intervals"].get(metric.name)
        limits = (
            [shown(interval[end], metric.digits) for end in ("low", "high")] if interval else []
        )
        value = shown(strict["metrics"][metric.name], metric.digits)
        lines.append(f"| {metric.name} | {value} | {' to '.join(limits)} |")
    main_metric = benchmark.metrics[0]
    lines += ["", f"| category | {main_metric.name} | coverage |", "|---|---:|---:|"]
    for category, part in strict["categories"][main_metric.name].items():
        covered = report["coverage_by_category"].get(category)
        shown_coverage = "" if covered is None else f"{covered:.1%}"
        score = shown(part, main_metric.digits)
        lines.append(f"| {markdown(category)} | {score} | {shown_coverage} |")
    lines += _published_to_markdown(report)
    counts = ", ".join(f"{number} {status}" for status, number in report["counts"].items())
    seeds = "unknown" if manifest["base_seed"] is None else f"from {manifest['base_seed']}"
    lines += [
        "",
        f"Images: {counts}; coverage {report['coverage']:.1%}.",
        f"Prompts: {report['source']}. Seeds {seeds}. Weights "
        f"{markdown(manifest['weights_sha256'][:12])}. {markdown(_versions(report))}. Written "
        f"{report[WRITTEN]}.",
    ]
    lines += [f"Scorer: {markdown(f'{name} {value}')}." for name, value in report["scorer"].items()]
    return "\n".join(lines) + "\n"


def _versions(report: Report) -> str:
    """Versions of the libraries that generated the images."""
    return ", ".join(f"{name} {value}" for name, value in report["run"]["versions"].items())


def _to_lines(warnings: Iterable[tuple[str, str]]) -> list[str]:
    """Warnings as paragraphs."""
    return [line for lead, text in warnings for line in (f"**{lead}** {markdown(text)}", "")]


def _published_to_markdown(report: Report) -> list[str]:
    """Published rows beside this run's, a table for each source and judge."""
    manifest, strict = report["run"], report["rules"]["strict"]
    published, lines = report["published"], []
    for table in published["tables"]:
        metric = table["metric"]
        digits = find_benchmark(report["benchmark"]).metric(metric).digits
        ours = strict["metrics"][metric] if has_result(report) else None
        lines += ["", f"Published ({table['source']}; judge {table['judge']}):", ""]
        if table["not_comparable"]:
            lines += [
                f"**Not comparable with this run.** {markdown(table['not_comparable'])}",
                "",
            ]
        lines += [f"| model | parameters | {metric} |", "|---|---|---:|"]
        if not table["not_comparable"]:
            name = markdown(manifest["model"])
            lines.append(f"| **this run: {name}** | | **{shown(ours, digits)}** |")
        for row in table["rows"]:
            if cell := find_cell(row, metric):
                lines.append(f"| {row['model']} | {row['parameters'] or ''} | {cell['printed']} |")
        lines += ["", *(f"- {remark}" for remark in remarks_of(table))]
    if published["elsewhere"]:
        lines += ["", published["elsewhere"]]
    return lines


def remarks_of(table: Mapping[str, Any]) -> list[str]:
    """The remarks of a table and of its rows."""
    of_rows = [f"{row['model']}: {each}" for row in table["rows"] for each in row["remarks"]]
    return [*table["remarks"], *of_rows]


def has_result(report: Report) -> bool:
    """Whether the run's scores are results: it is done and complete."""
    return bool(report["state"] == "done" and not report["incomplete"])


def _pair_to_markdown(report: Report) -> str:
    first, second = (markdown(report[name]["run"]["model"]) for name in ("first", "second"))
    lines = [f"# {report['benchmark']}: {second} minus {first}", ""]
    lines += [_run_in_a_line(name, report[name]) for name in ("first", "second")]
    lines.append("")
    if report["state"] != "done":
        lines += ["**Not done: at least one run is unfinished.** These are not results.", ""]
    if report["first"]["scorer"] != report["second"]["scorer"]:
        lines += [
            "**Different scorers.** The two runs were scored differently, which alone may cause a "
            "difference.",
            "",
        ]
    benchmark = find_benchmark(report["benchmark"])
    warnings = [report_warnings(report[name], benchmark) for name in ("first", "second")]
    # Warnings of both runs appear once.
    lines += _to_lines(dict.fromkeys(each for side in warnings for each in side))
    lines += [
        f"| metric | first | second | second minus first | {LEVEL:.0%} interval | p | prompts |",
        "|---|---:|---:|---:|---|---:|--:|",
    ]
    for name, each in report["differences"].items():
        digits = benchmark.metric(name).digits
        scores = [report[run]["rules"]["strict"]["metrics"][name] for run in ("first", "second")]
        value, low, high = (f"{each[part]:+.{digits}f}" for part in ("value", "low", "high"))
        lines.append(
            f"| {name} | {shown(scores[0], digits)} | {shown(scores[1], digits)} | {value} "
            f"| {low} to {high} | {each['p_value']:.3g} | {each['items']} |"
        )
    changed = [each for each in report["items"] if each["first"] != each["second"]]
    lines += ["", f"{len(changed)} of {len(report['items'])} prompts differ.", ""]
    lines += ["| prompt | category | first | second |", "|---|---|---:|---:|"]
    for each in changed:
        values = f"{shown(each['first'], 4)} | {shown(each['second'], 4)}"
        lines.append(f"| {markdown(each['item'])} | {markdown(each['category'])} | {values} |")
    return "\n".join([*lines, "", f"Written {report[WRITTEN]}."]) + "\n"


def _run_in_a_line(name: str, report: Report) -> str:
    """What distinguishes two runs of one model."""
    manifest = report["run"]
    seeds = "unknown" if manifest["base_seed"] is None else f"from {manifest['base_seed']}"
    return (
        f"- {name}: {markdown(manifest['model'])}, weights "
        f"{markdown(manifest['weights_sha256'][:12])}, seeds {seeds}"
    )


def shown(value: float | None, digits: int) -> str:
    """A score with so many digits, or ``none``."""
    return "none" if value is None else f"{value:.{digits}f}"


def summarize(report: Report, folder: Path) -> dict[str, Any]:
    """The scores of a run under the strict rule, for programs; keys as in the report."""
    strict = report["rules"]["strict"]
    main_metric = find_benchmark(report["benchmark"]).metrics[0].name
    interval = report["intervals"].get(main_metric)
    return {
        "benchmark": report["benchmark"],
        "run": str(folder),
        "model": report["run"]["model"],
        **{name: report[name] for name in ("scorer", "state", "subset", "counts", "coverage")},
        "overall": strict["overall"],
        "metrics": strict["metrics"],
        "categories": strict["categories"][main_metric],
        "interval": interval and [interval["low"], interval["high"]],
        "rule": "strict",
    }
