"""The plots of ``docs/performance.md``, from the records: ``python perf/plots.py``.

Records of this folder's scripts are in ``perf/results``; the ``record.json`` of a plan of the GPU
kit is copied there as ``gpu_PLAN.json``. A plot whose record is missing is left out, and so is a
row that was not filled. Written as plain SVG, without a background, in colours that are readable
on light and on dark pages.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parent.parent

WIDTH, LABELS, RIGHT = 760, 230, 60
BAR, GAP, PAD = 16, 3, 14
"""Pixels: of a bar, between bars, between groups."""

TITLE, LEGEND = 26, 20
"""Pixels: of the title, of a line of the legend."""

COLOURS = (
    "#3f8fd2",
    "#1a9e77",
    "#c98a1b",
    "#b25fa8",
    "#d05c4f",
    "#7a78c8",
    "#5f9ea0",
    "#9a7d5a",
    "#7c9a3c",
    "#8a8f98",
)
"""All with a contrast of at least 3 to white and to the dark pages of code hosts."""

STYLE = """text { font: 13px system-ui, sans-serif; fill: #4a525c }
.title { font-weight: 600; font-size: 14px }
.value { font-size: 12px }
line { stroke: #8a8f98; stroke-dasharray: 4 3 }
@media (prefers-color-scheme: dark) { text { fill: #b6bec9 } }"""


@dataclass(frozen=True, kw_only=True)
class Bars:
    """A plot of horizontal bars, grouped by label or stacked."""

    title: str
    series: Sequence[str]
    groups: Mapping[str, Mapping[str, float]]
    """By label, the value of each series that has one."""
    mark: float | None = None
    """Where a dashed line stands: what values are compared with."""
    stacked: bool = False

    def svg(self) -> str:
        """The drawing."""
        return "\n".join(_document(self, *_rows(self))) + "\n"


@dataclass(frozen=True, kw_only=True)
class _Bar:
    start: float
    value: float
    colour: str
    text: str
    top: int


def _rows(plot: Bars) -> tuple[list[tuple[str, int]], list[_Bar], int]:
    """Labels with their places, bars, and the height of the plot."""
    labels, bars, top = [], [], _top(plot)
    for label, values in plot.groups.items():
        begin, start = top, 0.0
        for name in (each for each in plot.series if each in values):
            colour = COLOURS[plot.series.index(name) % len(COLOURS)]
            text = "" if plot.stacked else f"{values[name]:.2f}"
            bars.append(_Bar(start=start, value=values[name], colour=colour, text=text, top=top))
            if plot.stacked:
                start += values[name]
            else:
                top += BAR + GAP
        if plot.stacked:
            bars.append(_Bar(start=start, value=0.0, colour="none", text=f"{start:.2f}", top=top))
            top += BAR + GAP
        labels.append((label, (begin + top - GAP) // 2))
        top += PAD
    return labels, bars, top


def _legend(plot: Bars) -> list[tuple[int, int]]:
    """Where the names of the series stand; one series needs none."""
    places, left, line = [], 0, 0
    for name in plot.series if len(plot.series) > 1 else ():
        width = 34 + 7 * len(name)
        if left + width > WIDTH:
            left, line = 0, line + 1
        places.append((left, TITLE + LEGEND * line))
        left += width
    return places


def _top(plot: Bars) -> int:
    """Where the bars begin."""
    places = _legend(plot)
    return (places[-1][1] + LEGEND if places else TITLE) + PAD


def _document(
    plot: Bars, labels: Sequence[tuple[str, int]], bars: Sequence[_Bar], height: int
) -> Iterator[str]:
    ends = [bar.start + bar.value for bar in bars] + ([plot.mark] if plot.mark else [])
    scale = (WIDTH - LABELS - RIGHT) / max(ends)
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(plot.title)}">'
    )
    yield f"<style>{STYLE}</style>"
    yield f'<text class="title" x="0" y="16">{escape(plot.title)}</text>'
    for index, (left, top) in enumerate(_legend(plot)):
        colour, name = COLOURS[index % len(COLOURS)], escape(plot.series[index])
        yield f'<rect x="{left}" y="{top + 2}" width="11" height="11" fill="{colour}"/>'
        yield f'<text class="value" x="{left + 15}" y="{top + 12}">{name}</text>'
    for label, middle in labels:
        yield f'<text x="{LABELS - 10}" y="{middle + 4}" text-anchor="end">{escape(label)}</text>'
    for bar in bars:
        start, width = LABELS + bar.start * scale, bar.value * scale
        if width:
            yield (
                f'<rect x="{start:.1f}" y="{bar.top}" width="{width:.1f}" height="{BAR}" '
                f'fill="{bar.colour}"/>'
            )
        if bar.text:
            end = start + width + 5
            yield f'<text class="value" x="{end:.1f}" y="{bar.top + 12}">{bar.text}</text>'
    if plot.mark is not None:
        at = LABELS + plot.mark * scale
        yield f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{_top(plot) - 8}" y2="{height - PAD + 4}"/>'
    yield "</svg>"


def cpu_times(results: Path) -> Bars | None:
    """Time on a CPU, relative to what is compared with."""
    groups: dict[str, Mapping[str, float]] = {}
    loop = read(results / "dit_loop.json")
    if loop is not None:
        for key, label in (("text_to_image", "text-to-image"), ("edit_one_reference", "edit")):
            groups[f"denoising loop, {label}"] = {"ours": loop[key]["of_diffusers"]["deepgen"]}
    full = read(results / "dit_full_size_cpu.json")
    if full is not None:
        ratio = (
            full["deepgen"]["seconds_per_guided_step"]
            / full["diffusers"]["seconds_per_guided_step"]
        )
        groups["one step, released size"] = {"ours": ratio}
    for number, stage in (("1", "pretrain"), ("2", "sft")):
        step = read(results / f"train_step_{stage}.json")
        if step is not None:
            for key, label in (
                ("equal_lengths", "equal lengths"),
                ("padded_and_encoding", "as in use"),
            ):
                groups[f"training, stage {number}, {label}"] = {
                    "ours": step[key]["of_plain"]["deepgen"]
                }
    title = "Time on a CPU relative to diffusers, or to the published training step (= 1)"
    return Bars(title=title, series=("ours",), groups=groups, mark=1.0) if groups else None


def gpu_loops(results: Path) -> Bars | None:
    """The denoising loop of all sides, relative to the arithmetic floor."""
    rows = gpu_rows(results / "gpu_tables.json", "loop_")
    series = list(dict.fromkeys(side for row in rows.values() for side in row["of_floor"]))
    groups: dict[str, dict[str, float]] = {}
    for row in rows.values():
        groups.setdefault(_described(row), {}).update(row["of_floor"])
    title = "Denoising loop on a GPU: time relative to the arithmetic floor (= 1)"
    return Bars(title=title, series=series, groups=groups, mark=1.0) if groups else None


def gpu_images(results: Path) -> Bars | None:
    """Seconds of whole calls, by part."""
    rows = gpu_rows(results / "gpu_tables.json", "image")
    series = ("prompts", "references", "loop", "vae")
    groups = {
        name.replace("_", " "): row["parts_of_last_call"]
        for name, row in rows.items()
        if row["images"] == 1
    }
    title = "An image on a GPU: seconds by part"
    return Bars(title=title, series=series, groups=groups, stacked=True) if groups else None


def gpu_profiles(results: Path) -> Bars | None:
    """Shares of the time, by kind of kernel."""
    rows = gpu_rows(results / "gpu_tables.json", "profile_")
    groups = {}
    for name, row in rows.items():
        busy = 1 - row["idle_fraction"]
        shares = {kind: busy * share for kind, share in row["share_of_busy_time"].items()}
        groups[name.removeprefix("profile_").replace("_", " ")] = {
            **shares,
            "idle": row["idle_fraction"],
        }
    kinds = {kind for shares in groups.values() for kind in shares}
    series = sorted(kinds, key=lambda kind: -sum(each.get(kind, 0) for each in groups.values()))
    title = "What a GPU computes: shares of the time by kind of kernel"
    return Bars(title=title, series=series, groups=groups, stacked=True) if groups else None


PLOTS = {
    "performance_cpu.svg": cpu_times,
    "performance_gpu_loops.svg": gpu_loops,
    "performance_gpu_images.svg": gpu_images,
    "performance_gpu_profiles.svg": gpu_profiles,
}


def read(path: Path) -> Any:
    """A record, or None if there is none."""
    return json.loads(path.read_text()) if path.exists() else None


def gpu_rows(path: Path, prefix: str) -> dict[str, Mapping[str, Any]]:
    """Results of the filled rows of a plan whose names begin so.

    Raises:
        SystemExit: The record is of a rehearsal.
    """
    record = read(path)
    if record is None:
        return {}
    if any(start["toy"] for start in record["starts"]):
        raise SystemExit(f"error: {path} is the record of a rehearsal; its numbers mean nothing")
    return {
        name: row["result"]
        for name, row in record["rows"].items()
        if name.startswith(prefix) and row["state"] == "done"
    }


def _described(row: Mapping[str, Any]) -> str:
    side, count = row["pixels"][0], row["references"]
    references = f", {count} reference{'s' * (count > 1)}" if count else ""
    return f"batch {row['images']}, {side} px{references}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw all plots that have a record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--results", type=Path, default=ROOT / "perf" / "results")
    parser.add_argument("--target", type=Path, default=ROOT / "docs" / "img")
    options = parser.parse_args(arguments)
    for name, plot in PLOTS.items():
        drawn = plot(options.results)
        if drawn is None:
            print(f"{name}: no record yet", file=sys.stderr)
            continue
        (options.target / name).write_text(drawn.svg())
        print(options.target / name)


if __name__ == "__main__":
    main()
