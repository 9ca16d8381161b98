"""A training run as one page: curves of its metrics, sample images, groups with their rewards.

Made from the files of the run alone, for any stage and also while it trains. Like the pages of
``eval/report/``, it is a single file without scripts or addresses to load from.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from deepgen.errors import TrainingError
from deepgen.eval.report.gallery import Embedded, Embedder
from deepgen.images.io import atomic_file
from deepgen.reading import MAX_LINES_BYTES, MAX_YAML_BYTES, parse_json, parse_yaml, read_text
from deepgen.rl.group_records import GroupRecord, read_groups
from deepgen.stages.curves import Curve, shown
from deepgen.stages.run_folder import SETTINGS
from deepgen.train.monitor.logs import METRICS, REPLACEMENTS

PAGE = "report.html"

MOST_STEPS = 8
"""Steps whose sample images are shown, evenly chosen, the first and last included."""

MOST_GROUPS = 12
"""Groups that are shown, of evenly chosen steps."""

TRAINING = "Training"
"""Heading of the metrics that have no group of their own."""

FOLDED = ("speed",)
"""Groups of metrics that are shown on demand."""

_SAMPLE = re.compile(r"step_(\d+)_(\d+)\.png")

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """Metrics with the same beginning."""

    name: str
    drawings: tuple[tuple[str, str, str], ...]
    """Name, last value and SVG of each curve."""
    constants: tuple[tuple[str, str], ...]
    """Name and value of metrics that never changed."""
    is_folded: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleRow:
    """One sample prompt over the steps."""

    prompt: str
    images: tuple[tuple[int, Embedded], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupImage:
    """One image of a group, with what it is worth."""

    image: Embedded
    advantage: str
    rewards: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownGroup:
    """One group."""

    step: int
    prompt: str
    category: str
    images: tuple[GroupImage, ...]
    missing: tuple[tuple[str, str], ...]
    """Name and reason of missing rewards."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One stage of a run."""

    name: str
    facts: tuple[tuple[str, str], ...]
    families: tuple[Family, ...]
    samples: tuple[SampleRow, ...]
    groups: tuple[ShownGroup, ...]
    settings: str
    """The text of its settings; empty where it has none."""


def write_run_page(run: Path, output: Path | None = None) -> Path:
    """Write the page of a run, by default into its folder, and return where.

    Raises:
        TrainingError: The folder has no metrics.
    """
    folders = stage_folders(run)
    embed = Embedder()
    stages = [read_stage(folder, folder.relative_to(run).as_posix(), embed) for folder in folders]
    path = output or run / PAGE
    with atomic_file(path, overwrite=True) as part:
        part.write_text(render(run.resolve().name, stages), encoding="utf-8")
    return path


def stage_folders(run: Path) -> list[Path]:
    """The folders with metrics: the run itself, or those of its stages, in the order of writing.

    Raises:
        TrainingError: There are none.
    """
    if (run / METRICS).is_file():
        return [run]
    logs = [*run.glob(f"*/{METRICS}"), *run.glob(f"*/*/{METRICS}")]
    if not logs:
        raise TrainingError(
            f"{run} has no {METRICS}; name the folder of a run that has trained a few steps"
        )
    return [each.parent for each in sorted(logs, key=lambda log: log.stat().st_mtime)]


def read_stage(folder: Path, name: str, embed: Embedder) -> Stage:
    """All that a page shows of one stage."""
    curves = read_curves(folder / METRICS)
    text, settings = _settings(folder / SETTINGS)
    last = max((curve.points[-1][0] for curve in curves), default=0)
    facts = [
        ("steps", f"{last:,} of {settings['steps']:,}" if "steps" in settings else f"{last:,}")
    ]
    facts += [(key, str(settings[key])) for key in ("stage", "model", "seed") if settings.get(key)]
    replaced = _count_lines(folder / REPLACEMENTS)
    if replaced:
        facts.append(("replaced samples", f"{replaced:,}"))
    return Stage(
        name="" if name == "." else name,
        facts=tuple(facts),
        families=tuple(_families(curves)),
        samples=tuple(_samples(folder, settings, embed)),
        groups=tuple(_groups(folder, embed)),
        settings=text,
    )


def read_curves(log: Path) -> list[Curve]:
    """Every metric of a log, in the order of their first line; damaged lines are left out."""
    points: dict[str, dict[int, float]] = defaultdict(dict)
    for line in read_text(log, limit=MAX_LINES_BYTES, errors="replace").splitlines():
        try:
            values = parse_json(line)
            step = int(values.pop("step"))
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
        for name, value in _numbers(values):
            points[name][step] = value
    return [Curve(name=name, points=sorted(own.items())) for name, own in points.items()]


def spread(values: Sequence[T], most: int) -> list[T]:
    """At most so many, evenly chosen, the first and the last included."""
    if len(values) <= most:
        return list(values)
    return [values[round(place * (len(values) - 1) / (most - 1))] for place in range(most)]


def render(name: str, stages: Sequence[Stage]) -> str:
    """The page as text; everything in it is escaped, but for the drawings."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    loader = ChoiceLoader(
        [PackageLoader("deepgen.stages", "assets"), PackageLoader("deepgen.eval", "assets")]
    )
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    written = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    template = environment.get_template("run_page.html")
    return template.render(title=f"{name}: training run", name=name, stages=stages, written=written)


def _numbers(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{name}", float(value)


def _families(curves: Sequence[Curve]) -> Iterator[Family]:
    """Curves by the beginning of their names; those alone with theirs are together, first."""
    steps = [step for curve in curves for step, _ in curve.points]
    if not steps:
        return
    first, last = min(steps), max(steps)
    members: dict[str, list[Curve]] = defaultdict(list)
    for curve in curves:
        members[curve.name.partition("/")[0]].append(curve)
    common = [curve for own in members.values() if len(own) == 1 for curve in own]
    named = {name: own for name, own in members.items() if len(own) > 1}
    for name, own in ({TRAINING: common} | named).items():
        drawn = [curve for curve in own if not curve.is_constant]
        if own:
            yield Family(
                name=name,
                drawings=tuple((each.name, each.last, each.draw(first, last)) for each in drawn),
                constants=tuple((each.name, each.last) for each in own if each.is_constant),
                is_folded=name in FOLDED,
            )


def _samples(folder: Path, settings: Mapping[str, Any], embed: Embedder) -> Iterator[SampleRow]:
    found: dict[int, dict[int, Path]] = defaultdict(dict)
    for path in (folder / "samples").glob("step_*.png"):
        match = _SAMPLE.fullmatch(path.name)
        if match:
            found[int(match[2])][int(match[1])] = path
    steps = spread(sorted({step for own in found.values() for step in own}), MOST_STEPS)
    logging = settings.get("logging")
    logging = logging if isinstance(logging, dict) else {}
    prompts = list(logging.get("sample_prompts") or [])
    prompts += [
        edit[0] if isinstance(edit, list) else edit for edit in logging.get("sample_edits") or []
    ]
    for place, number in enumerate(sorted(found)):
        own = found[number]
        yield SampleRow(
            prompt=str(prompts[place]) if place < len(prompts) else f"sample {number}",
            images=tuple((step, embed(own[step])) for step in steps if step in own),
        )


def _groups(folder: Path, embed: Embedder) -> Iterator[ShownGroup]:
    for record in spread(read_groups(folder), MOST_GROUPS):
        yield ShownGroup(
            step=record.step,
            prompt=record.prompt,
            category=record.category,
            images=tuple(_group_images(record, folder, embed)),
            missing=tuple(record.missing.items()),
        )


def _group_images(record: GroupRecord, folder: Path, embed: Embedder) -> Iterator[GroupImage]:
    """The images of a group, the highest advantage first."""
    order = sorted(range(len(record.images)), key=lambda place: -record.advantages[place])
    for place in order:
        yield GroupImage(
            image=embed(folder / record.images[place]),
            advantage=f"{record.advantages[place]:+.2f}".replace("-", "\N{MINUS SIGN}"),
            rewards=tuple(
                (name, "missing" if values is None else shown(round(values[place], 4)))
                for name, values in record.rewards.items()
            ),
        )


def _settings(path: Path) -> tuple[str, Mapping[str, Any]]:
    """The settings of a run as text and as values; empty where they cannot be read."""
    try:
        text = read_text(path, limit=MAX_YAML_BYTES)
        values = parse_yaml(text)
    except (OSError, ValueError):
        return "", {}
    return text, values if isinstance(values, dict) else {}


def _count_lines(path: Path) -> int:
    try:
        return len(read_text(path, limit=MAX_LINES_BYTES, errors="replace").splitlines())
    except OSError:
        return 0
