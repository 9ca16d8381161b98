"""What the loop of every stage is given, in groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from deepgen.train.monitor.replacements import ReplacementSource
from deepgen.train.monitor.speed import Clock


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopConfig:
    """How long a model is trained, and how far it moves in each step."""

    steps: int
    """Optimizer steps in all."""
    schedule: Callable[[int], float]
    """Fraction of the optimizer's learning rate, by the steps done."""
    seed: int = 0
    """Seed of randomness that belongs to no sample: dropout, and what objectives draw per
    micro-batch."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Monitoring:
    """What is measured while a model is trained."""

    clock: Clock = field(default_factory=Clock)
    """Times the phases of a step."""
    parts: Mapping[str, str] = field(default_factory=dict)
    """By the name of a parameter, the part of the model that its gradient's norm counts for."""
    replacement_source: ReplacementSource | None = None
    """Replaces samples that cannot be read, and says which."""
