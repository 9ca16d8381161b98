"""From stored records to scores: pure arithmetic, the same for every benchmark.

Every metric is a ratio of sums. An item's row holds what its images add to each column, a column
being a category of a metric; so the whole result is a function of column sums, which also makes
resampling of items a matrix product (``statistics.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepgen.errors import BenchmarkError
from deepgen.eval.benchmark import (
    COMPLETE_COVERAGE,
    STATUSES,
    Benchmark,
    ImageRecord,
    Item,
    Metric,
    Rule,
    ScoreTerm,
    Status,
    Values,
)

Column = tuple[str, str]
"""Name of a metric and of one of its categories."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreTable:
    """What each item adds to each column, before any sum."""

    items: tuple[Item, ...]
    columns: tuple[Column, ...]
    amounts: NDArray[np.float64]
    """``[items, columns]``."""
    weights: NDArray[np.float64]
    """``[items, columns]``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """The result of one benchmark under one rule."""

    benchmark: str
    rule: Rule
    overall: float | None
    """None where the rule forbids one number for the whole."""
    metrics: Mapping[str, float | None]
    categories: Mapping[str, Mapping[str, float]]
    """Per metric."""
    counts: Mapping[str, int]
    """Images: ``expected``, and one entry per status."""
    coverage: float
    """Fraction of the expected images that were scored."""
    coverage_by_category: Mapping[str, float]
    """The same within each category of items."""
    subset: bool
    """Whether the run has only a part of the benchmark's items."""

    @property
    def incomplete(self) -> bool:
        """Whether more than 1 % of the images failed."""
        return self.coverage < COMPLETE_COVERAGE


def aggregate(
    benchmark: Benchmark,
    items: Sequence[Item],
    records: Iterable[ImageRecord],
    rule: Rule = "strict",
) -> Scores:
    """Scores of a run.

    Args:
        items: All prompts of the run; an image without a record counts as missing.
        records: In any order; of several for one image the last counts.

    Raises:
        BenchmarkError: A record of no expected image, or values that the benchmark cannot have.
    """
    images = _by_image(benchmark, items, records)
    table = score_table(benchmark, items, images.values(), rule)
    amounts = table.amounts.sum(axis=0, keepdims=True)
    weights = table.weights.sum(axis=0, keepdims=True)
    metrics: dict[str, float | None] = {}
    categories: dict[str, dict[str, float]] = {}
    for metric in benchmark.metrics:
        whole, parts = combine(
            metric, table.columns, amounts, weights, present_only=rule == "official"
        )
        metrics[metric.name] = None if np.isnan(whole[0]) else float(whole[0])
        categories[metric.name] = {
            name: float(score[0]) for name, score in parts.items() if not np.isnan(score[0])
        }
    statuses = [record.status for record in images.values()]
    counts = {"expected": len(statuses)} | {each: statuses.count(each) for each in STATUSES}
    coverage = counts["scored"] / counts["expected"] if statuses else 0.0
    forbidden = {
        "strict": coverage < COMPLETE_COVERAGE,
        "official": any(counts[status] for status in benchmark.official_refusal),
        "pessimistic": False,
    }
    return Scores(
        benchmark=benchmark.name,
        rule=rule,
        overall=None if forbidden[rule] else metrics[benchmark.metrics[0].name],
        metrics=metrics,
        categories=categories,
        counts=counts,
        coverage=coverage,
        coverage_by_category=_coverage_by_category(items, images),
        subset=len(items) < benchmark.expected_items,
    )


def score_table(
    benchmark: Benchmark,
    items: Sequence[Item],
    records: Iterable[ImageRecord],
    rule: Rule = "strict",
) -> ScoreTable:
    """What each item adds to each category of each metric, failed images as the rule says."""
    images = _by_image(benchmark, items, records)
    rows: list[dict[Column, tuple[float, float]]] = []
    image_indices = range(benchmark.generation["paper"].images_per_item)
    for item in items:
        counted = [
            _counted(benchmark, item, images[item.id, image_index], rule)
            for image_index in image_indices
        ]
        values = [each for each in counted if each is not None]
        row: dict[Column, tuple[float, float]] = {}
        for term in _terms(benchmark, item, values):
            amount, weight = row.get((term.metric, term.category), (0.0, 0.0))
            added = (amount + term.amount, weight + term.weight)
            row[term.metric, term.category] = added
        rows.append(row)
    columns = tuple(sorted({column for row in rows for column in row}))
    pairs = np.array(
        [[row.get(column, (0.0, 0.0)) for column in columns] for row in rows], dtype=np.float64
    ).reshape(len(rows), len(columns), 2)
    return ScoreTable(
        items=tuple(items), columns=columns, amounts=pairs[..., 0], weights=pairs[..., 1]
    )


def combine(
    metric: Metric,
    columns: Sequence[Column],
    amounts: NDArray[np.float64],
    weights: NDArray[np.float64],
    *,
    present_only: bool = False,
) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]:
    """A metric's whole, and its categories, from the sums of the columns.

    Args:
        amounts: ``[resamples, columns]``.
        weights: The same.
        present_only: Average over the categories that exist, where otherwise there is no whole.

    Returns:
        ``[resamples]`` each, NaN where undefined.
    """
    mine = {
        category: index for index, (name, category) in enumerate(columns) if name == metric.name
    }
    categories = {
        name: _ratio(amounts[..., index], weights[..., index]) for name, index in mine.items()
    }
    if metric.category_digits is not None:
        categories = {
            name: np.round(score, metric.category_digits) for name, score in categories.items()
        }
    if metric.weights is None:
        indices = list(mine.values())
        whole = _ratio(amounts[..., indices].sum(axis=-1), weights[..., indices].sum(axis=-1))
        return whole, categories
    undefined = np.full(amounts.shape[:-1], np.nan)
    scores = np.stack([categories.get(name, undefined) for name in metric.weights], axis=-1)
    fractions = np.broadcast_to(
        np.array(list(metric.weights.values()), dtype=np.float64), scores.shape
    )
    if present_only:
        fractions = np.where(np.isnan(scores), 0.0, fractions)
        scores = np.nan_to_num(scores)
    return _ratio((scores * fractions).sum(axis=-1), fractions.sum(axis=-1)), categories


def _ratio(amounts: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Amount per weight; NaN where there is no weight."""
    result = np.full(np.shape(amounts), np.nan)
    np.divide(amounts, weights, out=result, where=weights > 0)
    return result


def _by_image(
    benchmark: Benchmark, items: Sequence[Item], records: Iterable[ImageRecord]
) -> dict[tuple[str, int], ImageRecord]:
    """The record of every expected image, in the order of the items."""
    image_indices = range(benchmark.generation["paper"].images_per_item)
    images = {
        (item.id, image_index): ImageRecord(item=item.id, image_index=image_index, status="missing")
        for item in items
        for image_index in image_indices
    }
    for record in records:
        if (record.item, record.image_index) not in images:
            raise BenchmarkError(
                f"{benchmark.name} expects no image {record.image_index} of item {record.item}; "
                f"it has {len(items)} items with {len(image_indices)} images each, numbered from 0"
            )
        images[record.item, record.image_index] = record
    return images


def _counted(benchmark: Benchmark, item: Item, record: ImageRecord, rule: Rule) -> Values | None:
    """The values an image counts with; None leaves it out."""
    if record.status == "scored":
        return record.values
    if rule == "pessimistic":
        return benchmark.lowest_values(item)
    return benchmark.official_failure(item, record) if rule == "official" else None


def _terms(benchmark: Benchmark, item: Item, values: Sequence[Values]) -> list[ScoreTerm]:
    """What an item adds to the metrics; nothing without values.

    Raises:
        BenchmarkError: The values are not those of the benchmark's scorer: somebody edited them.
    """
    if not values:
        return []
    try:
        terms = list(benchmark.score_terms(item, values))
        if not all(isinstance(each.amount, int | float) for each in terms):
            raise TypeError("a number is expected")
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as cause:
        raise BenchmarkError(
            f"the values of item {item.id} are not those of a scorer of {benchmark.name} "
            f"({type(cause).__name__}: {cause}); delete its lines from scores.jsonl and score again"
        ) from cause
    return terms


def _coverage_by_category(
    items: Sequence[Item], images: Mapping[tuple[str, int], ImageRecord]
) -> dict[str, float]:
    category = {item.id: item.category for item in items}
    statuses: dict[str, list[Status]] = {}
    for (item_id, _), record in images.items():
        statuses.setdefault(category[item_id], []).append(record.status)
    return {name: each.count("scored") / len(each) for name, each in statuses.items()}
