"""What a step reports: one process, and all of them together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from deepgen.train.monitor.replacements import Entry
from deepgen.train.objective import Loss

SumAndCount = tuple[int | float, int | float]
"""Sum and count of a mean to report; counts may be any weights."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepReport:
    """Sums over the micro-batches of a step."""

    total: float = 0.0
    """The loss."""
    parts: Mapping[str, float] = field(default_factory=dict)
    """What the objective reports, by name."""
    means: Mapping[str, SumAndCount] = field(default_factory=dict)
    """What is divided by a count before it is logged; among them the losses by kind of sample."""
    replacements: Sequence[Entry] = ()
    """Samples that were replaced by others."""
    was_signalled: bool = False
    """Whether a process has been asked to stop."""
    has_saved: bool = False
    """Whether all have written what they had to of a checkpoint, or failed to."""
    is_save_due: bool = False
    """Whether a process has gone without a checkpoint for too long."""
    skip: str = ""
    """What the step lacks, where it must not be made."""
    stop: str = ""
    """Why the run has to end after this step, where it has to."""

    @classmethod
    def of(
        cls,
        losses: Sequence[Loss],
        *,
        replacements: Sequence[Entry],
        was_signalled: bool,
        has_saved: bool,
        is_save_due: bool,
    ) -> StepReport:
        """The report of one process."""
        return cls(
            total=sum((loss.total.item() for loss in losses), 0.0),
            parts=_added(
                {name: value.item() for name, value in loss.parts.items()} for loss in losses
            ),
            means=_joined(mean for loss in losses for mean in _means(loss)),
            replacements=replacements,
            was_signalled=was_signalled,
            has_saved=has_saved,
            is_save_due=is_save_due,
            skip=_first(loss.skip for loss in losses),
            stop=_first(loss.stop for loss in losses),
        )

    @classmethod
    def merged(cls, reports: Sequence[StepReport]) -> StepReport:
        """The report of all processes."""
        return cls(
            total=sum(each.total for each in reports),
            parts=_added(each.parts for each in reports),
            means=_joined(mean for each in reports for mean in each.means.items()),
            replacements=[entry for each in reports for entry in each.replacements],
            was_signalled=any(each.was_signalled for each in reports),
            has_saved=all(each.has_saved for each in reports),
            is_save_due=any(each.is_save_due for each in reports),
            skip=_first(each.skip for each in reports),
            stop=_first(each.stop for each in reports),
        )


def _first(reasons: Iterable[str]) -> str:
    return next((each for each in reasons if each), "")


def _means(loss: Loss) -> Iterator[tuple[str, SumAndCount]]:
    """Those of a micro-batch, and every sample's loss under every group of it."""
    for name, (value, count) in loss.means.items():
        yield name, (value.item(), count.item() if isinstance(count, Tensor) else count)
    if loss.samples is not None and loss.groups:
        for groups, value in zip(loss.groups, loss.samples.tolist(), strict=True):
            for group in groups:
                yield f"loss/{group}", (value, 1)


def _joined(means: Iterable[tuple[str, SumAndCount]]) -> dict[str, SumAndCount]:
    found: dict[str, SumAndCount] = {}
    for name, (value, count) in means:
        total, known = found.get(name, (0.0, 0))
        found[name] = (total + value, known + count)
    return found


def _added(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for each in parts:
        for name, value in each.items():
            found[name] = found.get(name, 0.0) + value
    return found
