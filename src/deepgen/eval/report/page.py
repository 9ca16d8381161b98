"""A report as one page: scores beside published ones, and images with their records.

The page is a single file without scripts, fonts or addresses to load from, which its own policy
forbids as well, and every text in it is escaped: a prompt may contain anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from deepgen.eval.benchmark import Benchmark, Item, Metric
from deepgen.eval.report.charts import DEEPGEN, charts, place, scale_of
from deepgen.eval.report.gallery import (
    Embedder,
    ShownImage,
    describe_selection,
    image_score,
    random_order,
    select_galleries,
    show_image,
)
from deepgen.eval.report.published import find_cell
from deepgen.eval.report.results import RULES, WRITTEN, Report, has_result, shown
from deepgen.eval.report.statistics import LEVEL, RESAMPLES
from deepgen.eval.report.warnings import report_warnings
from deepgen.eval.run.stored import StoredRun

MOST_ROWS = 200
"""Longest list in the page; the JSON file has all rows."""
PAIRS_PER_SIDE = 6
"""Prompts that a comparison shows with images: as many with the largest losses as gains."""
LONG_PROMPT = 200
"""Characters; longer prompts are folded."""

View = dict[str, Any]
"""Values for a template."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """One prompt in two runs."""

    first: ShownImage
    second: ShownImage
    change: float


def run_page(report: Report, run: StoredRun) -> str:
    """The page of one run."""
    benchmark = run.benchmark
    main_metric = benchmark.metrics[0]
    galleries = list(select_galleries(run, Embedder()))
    return _render(
        "run.html",
        _side(report, benchmark)
        | {
            "title": f"{report['title']}: {report['run']['model']}",
            "written": report[WRITTEN],
            "charts": list(charts(benchmark, {f"This run: {report['run']['model']}": report})),
            "elsewhere": report["published"]["elsewhere"],
            "rules": RULES,
            "metrics": [_metric_row(report, metric) for metric in benchmark.metrics],
            "categories": _category_rows(report, benchmark),
            "models": _models_with_categories(report, main_metric.name),
            "galleries": galleries,
            "rule": describe_selection(len(galleries)),
            "failures": report["failures"][:MOST_ROWS],
            "digits": max(main_metric.digits, 2),
        },
    )


def pair_page(report: Report, first: StoredRun, second: StoredRun) -> str:
    """The page of two runs, the second compared with the first."""
    benchmark = first.benchmark
    named = {
        f"{letter}: {report[side]['run']['model']}": report[side]
        for letter, side in (("A", "first"), ("B", "second"))
    }
    changed = [each for each in report["items"] if each["first"] != each["second"]]
    sides = [_side(each, benchmark) | {"name": name} for name, each in named.items()]
    shared = [each for each in sides[0]["warnings"] if each in sides[1]["warnings"]]
    for side in sides:
        side["warnings"] = [each for each in side["warnings"] if each not in shared]
    return _render(
        "comparison.html",
        {
            "title": f"{report['first']['title']}: B minus A",
            "written": report[WRITTEN],
            "sides": sides,
            "warnings": shared,
            "other_scorer": report["first"]["scorer"] != report["second"]["scorer"],
            "differences": [
                _difference_row(each, name, benchmark.metric(name).digits)
                for name, each in report["differences"].items()
            ],
            "charts": list(charts(benchmark, named)),
            "elsewhere": report["first"]["published"]["elsewhere"],
            "changed": changed[:MOST_ROWS],
            "changes": len(changed),
            "items": len(report["items"]),
            "pairs": list(_pairs(report, first, second)),
            "images_per_prompt": len(first.image_indices),
            "scorer": {
                f"{name}, {part}": value
                for name, each in named.items()
                for part, value in each["scorer"].items()
            },
            "pairs_per_side": PAIRS_PER_SIDE,
            "digits": max(benchmark.metrics[0].digits, 2),
        },
    )


def _side(report: Report, benchmark: Benchmark) -> View:
    """What a page shows of one run, alone or in a pair."""
    main_metric = benchmark.metrics[0]
    result = report["rules"]["strict"]["overall"]
    interval = _interval(report, main_metric) if result is not None else ""
    low, high = scale_of(benchmark)
    return {
        "report": report,
        "metric": main_metric.name,
        "result": shown(result, main_metric.digits),
        "interval": interval,
        "scale": (f"{low:g}", f"{high:g}"),
        "state": _state(report),
        "warnings": list(report_warnings(report, benchmark)),
        "scorer": report["scorer"],
        "images_per_prompt": report["run"]["rule"]["images_per_item"],
        "facts": list(_facts(report, benchmark)),
    }


def _state(report: Report) -> str:
    if report["state"] != "done":
        return "not done"
    return "incomplete" if report["incomplete"] else "done"


def _facts(report: Report, benchmark: Benchmark) -> Iterator[tuple[str, str]]:
    """How the images were generated."""
    manifest, rule = report["run"], report["run"]["rule"]
    size = f"{rule['width']} x {rule['height']} pixels" if rule["width"] else "the model's own size"
    yield "Model", manifest["model"]
    yield "Weights (SHA-256)", manifest["weights_sha256"]
    yield "Prompts", f"{report['source']}, {benchmark.source.licence} (licence)"
    yield "Prompts (SHA-256)", manifest["prompts_sha256"]
    yield "Images per prompt", str(rule["images_per_item"])
    if manifest["base_seed"] is not None:
        yield "Seed of an image", f"{manifest['base_seed']} + 1000 x prompt number + image index"
        yield "Generated with", f"{size}, {rule['steps']} steps, guidance {rule['guidance_scale']}"
    yield "Settings", ", ".join(f"{name} {value}" for name, value in manifest["settings"].items())
    yield "Versions", ", ".join(f"{name} {value}" for name, value in manifest["versions"].items())
    yield "Official judge", report["official_judge"]
    yield "Intervals", f"{LEVEL:.0%}, {RESAMPLES:,} resamples of prompts within each category"


def _metric_row(report: Report, metric: Metric) -> View:
    values = [shown(report["rules"][rule]["metrics"][metric.name], metric.digits) for rule in RULES]
    return {"name": metric.name, "values": values, "interval": _interval(report, metric)}


def _interval(report: Report, metric: Metric) -> str:
    interval = report["intervals"].get(metric.name)
    if interval is None:
        return ""
    return f"{shown(interval['low'], metric.digits)} to {shown(interval['high'], metric.digits)}"


def _category_rows(report: Report, benchmark: Benchmark) -> list[View]:
    """Each category of the main metric, with published scores of it."""
    main_metric = benchmark.metrics[0]
    models = _models_with_categories(report, main_metric.name)
    rows = []
    for name, score in report["rules"]["strict"]["categories"][main_metric.name].items():
        covered = report["coverage_by_category"].get(name)
        cells = [find_cell(row, main_metric.name, name) for row in models]
        rows.append(
            {
                "name": name,
                "score": shown(score, main_metric.digits),
                "width": place(score, scale_of(benchmark)) if has_result(report) else None,
                "coverage": "" if covered is None else f"{covered:.1%}",
                "published": [cell["printed"] if cell else "" for cell in cells],
            }
        )
    return rows


def _models_with_categories(report: Report, metric: str) -> list[Mapping[str, Any]]:
    """Published rows of DeepGen that have categories of the main metric and may be compared."""
    return [
        row
        for table in report["published"]["tables"]
        for row in table["rows"]
        if row["model"].startswith(DEEPGEN)
        and not table["not_comparable"]
        and any(cell["metric"] == metric and cell["category"] for cell in row["cells"])
    ]


def _difference_row(difference: Mapping[str, Any], name: str, digits: int) -> View:
    """A difference around zero, on a scale of its own: metrics do not share one."""
    value, low, high = (difference[each] for each in ("value", "low", "high"))
    reach = max(abs(low), abs(high), abs(value)) or 1.0
    scale = (-reach, reach)
    return {
        "name": name,
        "value": _signed(value, digits),
        "interval": f"{_signed(low, digits)} to {_signed(high, digits)}",
        "p_value": f"{difference['p_value']:.3g}",
        "prompts": difference["items"],
        "left": place(min(0.0, value), scale),
        "width": abs(place(value, scale) - 50),
        "start": place(low, scale),
        "reach": place(high, scale) - place(low, scale),
        "apart": low > 0 or high < 0,
    }


def _signed(value: float, digits: int) -> str:
    """With a sign as wide as a plus."""
    return f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def _pairs(report: Report, first: StoredRun, second: StoredRun) -> Iterator[Pair]:
    """Prompts with the largest losses and gains."""
    items = {item.id: item for item in first.items}
    changes = {
        each["item"]: each["second"] - each["first"]
        for each in report["items"]
        if None not in (each["first"], each["second"]) and each["first"] != each["second"]
    }
    ranked = sorted(changes, key=lambda item: (changes[item], random_order((item, 0))))
    lost = [item for item in ranked if changes[item] < 0][:PAIRS_PER_SIDE]
    gained = [item for item in reversed(ranked) if changes[item] > 0][:PAIRS_PER_SIDE]
    embed = Embedder()
    for item in [*lost, *gained]:
        image_index = _most_changed(first, second, items[item])
        sides = [show_image(run, items[item], image_index, embed) for run in (first, second)]
        yield Pair(first=sides[0], second=sides[1], change=changes[item])


def _most_changed(first: StoredRun, second: StoredRun, item: Item) -> int:
    """The image of a prompt whose score changed most; of equal ones the first."""

    def change(image_index: int) -> float:
        before, after = (
            image_score(run.benchmark, item, record)
            if (record := run.records.get((item.id, image_index))) is not None
            else None
            for run in (first, second)
        )
        return 0.0 if before is None or after is None else abs(after - before)

    return max(first.image_indices, key=change)


class _Environment(Environment):
    """Templates in which a dot after a mapping means a key, and never a method of the mapping."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, Mapping):
            return obj[attribute] if attribute in obj else self.undefined(obj=obj, name=attribute)
        return super().getattr(obj, attribute)


def _render(template: str, values: View) -> str:
    environment = _Environment(
        loader=PackageLoader("deepgen.eval", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"fold": _fold, "signed": _signed}
    return environment.get_template(template).render(values)


def _fold(prompt: str) -> str | None:
    """The start of a long prompt, for a line that opens to show the whole; None of a short one."""
    if len(prompt) <= LONG_PROMPT:
        return None
    return f"{prompt[:LONG_PROMPT].rsplit(' ', 1)[0]} …"
