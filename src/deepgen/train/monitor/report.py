"""What an update has to say: of one process, and of all of them together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from deepgen.train.monitor.journal import Entry
from deepgen.train.objective import Loss

Group = tuple[float, int]
"""Losses of the samples of a kind: their sum, and how many there are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """Sums over the micro-batches of an update."""

    total: float = 0.0
    """The loss."""
    parts: Mapping[str, float] = field(default_factory=dict)
    """What the objective reports, by name."""
    groups: Mapping[str, Group] = field(default_factory=dict)
    """Losses of the samples of a kind, by name."""
    substitutions: Sequence[Entry] = ()
    """Samples that others stood in for."""
    was_signalled: bool = False
    """Whether a process has been asked to stop."""
    has_saved: bool = False
    """Whether all have written what they had to of a checkpoint, or failed to."""
    is_save_due: bool = False
    """Whether a process has gone without a checkpoint for too long."""

    @classmethod
    def of(
        cls,
        losses: Sequence[Loss],
        *,
        substitutions: Sequence[Entry],
        was_signalled: bool,
        has_saved: bool,
        is_save_due: bool,
    ) -> Report:
        """What one process has to say."""
        return cls(
            total=sum(loss.total.item() for loss in losses),
            parts=_added(
                {name: value.item() for name, value in loss.parts.items()} for loss in losses
            ),
            groups=_grouped(group for loss in losses for group in _groups(loss)),
            substitutions=substitutions,
            was_signalled=was_signalled,
            has_saved=has_saved,
            is_save_due=is_save_due,
        )

    @classmethod
    def joined(cls, said: Sequence[Report]) -> Report:
        """What all processes have to say together."""
        return cls(
            total=sum(each.total for each in said),
            parts=_added(each.parts for each in said),
            groups=_grouped(group for each in said for group in each.groups.items()),
            substitutions=[entry for each in said for entry in each.substitutions],
            was_signalled=any(each.was_signalled for each in said),
            has_saved=all(each.has_saved for each in said),
            is_save_due=any(each.is_save_due for each in said),
        )


def _groups(loss: Loss) -> Iterable[tuple[str, Group]]:
    """Every sample of a micro-batch under every name of its kind."""
    if loss.samples is not None and loss.kinds:
        for kinds, value in zip(loss.kinds, loss.samples.tolist(), strict=True):
            for kind in kinds:
                yield kind, (value, 1)


def _grouped(groups: Iterable[tuple[str, Group]]) -> dict[str, Group]:
    found: dict[str, Group] = {}
    for name, (value, count) in groups:
        total, known = found.get(name, (0.0, 0))
        found[name] = (total + value, known + count)
    return found


def _added(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for each in parts:
        for name, value in each.items():
            found[name] = found.get(name, 0.0) + value
    return found
