"""How sure a score is: bootstrap intervals over prompts, and the difference of two runs.

Prompts are drawn with replacement within each category, so that a resample has as many of each as
the benchmark. The images of one prompt share it and stay together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from deepgen.errors import BenchmarkError
from deepgen.eval.aggregation import ScoreTable, combine, score_table
from deepgen.eval.benchmark import Benchmark, ImageRecord, Item, Metric, Number, Rule

RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A number and where it would lie with other prompts of the same kind, at 95 %."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """The second run minus the first, over the prompts that both have."""

    value: float
    low: float
    high: float
    p_value: float
    """Two-sided: how often resamples contradict the sign of the difference, twice."""
    items: int
    """Prompts that say something of the metric in both runs."""


def bootstrap(
    benchmark: Benchmark,
    items: Sequence[Item],
    records: Iterable[ImageRecord],
    *,
    rule: Rule = "strict",
    seed: int = 0,
) -> dict[str, Interval]:
    """Interval of every metric that has a value.

    Where all resamples are equal, such as where no prompt is right, resampling carries no
    information about other prompts. The interval is then Wilson's (1927) of a fraction, here of the
    way from the metric's worst to its best value; around 0 of n prompts, 0 to about 4 / n. A mean
    inside bounds spreads no more than a fraction does, so this is never too narrow for one.

    Args:
        seed: Of the resampling; the same one gives the same intervals.
    """
    table = score_table(benchmark, items, records, rule)
    draws = _resample(table.items, seed)
    intervals = {}
    for metric in benchmark.metrics:
        value = _wholes(metric, table, np.ones((1, len(table.items))), rule)[0]
        if not np.isnan(value):
            resampled = _wholes(metric, table, draws, rule)
            low, high = _limits(resampled)
            if metric.bounds is not None and _all_equal(resampled):
                low, high = _wilson(float(value), metric.bounds, _prompts(metric, table))
            intervals[metric.name] = Interval(value=float(value), low=low, high=high)
    return intervals


def compare(
    benchmark: Benchmark,
    items: Sequence[Item],
    first: Iterable[ImageRecord],
    second: Iterable[ImageRecord],
    *,
    rule: Rule = "strict",
    seed: int = 0,
) -> dict[str, Difference]:
    """Paired difference of every metric: both runs are resampled with the same prompts.

    Prompts without a scored image in either run are left out of both.

    Raises:
        BenchmarkError: No prompt has images in both runs.
    """
    tables = [score_table(benchmark, items, records, rule) for records in (first, second)]
    scored = np.logical_and(*(table.weights.sum(axis=1) > 0 for table in tables))
    if not scored.any():
        raise BenchmarkError("the two runs have no scored prompt in common; score both first")
    shared = [_only(table, scored) for table in tables]
    draws = _resample(shared[0].items, seed)
    once = np.ones((1, len(shared[0].items)))
    differences = {}
    for metric in benchmark.metrics:
        before, after = (_wholes(metric, table, once, rule)[0] for table in shared)
        if np.isnan(after - before):
            continue
        resampled = _wholes(metric, shared[1], draws, rule) - _wholes(
            metric, shared[0], draws, rule
        )
        low, high = _limits(resampled)
        differences[metric.name] = Difference(
            value=float(after - before),
            low=low,
            high=high,
            p_value=_p_value(resampled),
            items=_counted(metric, shared),
        )
    return differences


def _counted(metric: Metric, tables: Sequence[ScoreTable]) -> int:
    """How many prompts say something of a metric, in every table."""
    mine = [index for index, (name, _) in enumerate(tables[0].columns) if name == metric.name]
    counted = [table.weights[:, mine].sum(axis=1) > 0 for table in tables]
    return int(np.logical_and.reduce(counted).sum())


def _resample(items: Sequence[Item], seed: int) -> NDArray[np.float64]:
    """How often each prompt was drawn: ``[resamples, items]``."""
    rng = np.random.default_rng(seed)
    draws = np.zeros((RESAMPLES, len(items)))
    categories = np.array([item.category for item in items])
    for category in sorted(set(categories.tolist())):
        mine = np.flatnonzero(categories == category)
        even = np.full(len(mine), 1 / len(mine))
        draws[:, mine] = rng.multinomial(len(mine), even, size=RESAMPLES)
    return draws


def _wholes(
    metric: Metric, table: ScoreTable, draws: NDArray[np.float64], rule: Rule
) -> NDArray[np.float64]:
    """A metric in each resample."""
    amounts, weights = draws @ table.amounts, draws @ table.weights
    present_only = rule == "official"
    return combine(metric, table.columns, amounts, weights, present_only=present_only)[0]


def _only(table: ScoreTable, chosen: NDArray[np.bool_]) -> ScoreTable:
    return ScoreTable(
        items=tuple(item for item, kept in zip(table.items, chosen, strict=True) if kept),
        columns=table.columns,
        amounts=table.amounts[chosen],
        weights=table.weights[chosen],
    )


def _limits(values: NDArray[np.float64]) -> tuple[float, float]:
    # A resample may have lost all parts of a rare category, and then it has no value.
    tail = (1 - LEVEL) / 2
    low, high = np.nanquantile(values, [tail, 1 - tail])
    return float(low), float(high)


def _all_equal(values: NDArray[np.float64]) -> bool:
    """Whether resamples differ by nothing but the rounding of sums."""
    return bool(np.nanmax(values) - np.nanmin(values) <= 1e-9 * max(1.0, np.nanmax(np.abs(values))))


def _wilson(value: float, bounds: tuple[Number, Number], count: float) -> tuple[float, float]:
    """Where a fraction would lie that came out as ``value``, as part of the way through the
    bounds."""
    worst, best = bounds
    proportion = (value - worst) / (best - worst)
    # Rounding may put a sum slightly outside its bounds.
    proportion = min(1.0, max(0.0, proportion))
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    middle = proportion + z**2 / (2 * count)
    reach = z * sqrt(proportion * (1 - proportion) / count + z**2 / (4 * count**2))
    low, high = ((middle + side * reach) / (1 + z**2 / count) for side in (-1, 1))
    low, high = min(low, proportion), max(high, proportion)
    return worst + max(0.0, low) * (best - worst), worst + min(1.0, high) * (best - worst)


def _prompts(metric: Metric, table: ScoreTable) -> float:
    """How many prompts of equal weight would tell as much of a metric as these (Kish 1965)."""
    parts = {
        category: table.weights[:, index]
        for index, (name, category) in enumerate(table.columns)
        if name == metric.name
    }
    if metric.weights is not None:
        parts = {
            name: weight * parts[name] / parts[name].sum()
            for name, weight in metric.weights.items()
            if name in parts and parts[name].any()
        }
    influence = np.sum(list(parts.values()), axis=0)
    return float(influence.sum() ** 2 / (influence**2).sum())


def _p_value(differences: NDArray[np.float64]) -> float:
    valid = differences[~np.isnan(differences)]
    # One resample more than drawn: the data themselves, so that p is never 0.
    below = (1 + np.count_nonzero(valid <= 0)) / (1 + len(valid))
    above = (1 + np.count_nonzero(valid >= 0)) / (1 + len(valid))
    return float(min(1.0, 2 * min(below, above)))
