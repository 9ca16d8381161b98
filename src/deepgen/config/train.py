"""Knobs of training; no torch in here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Levels = Literal["uniform", "logit_normal"]
"""How noise levels are drawn: all alike, or the middle ones more often (SD3, section 3.1)."""

Weighting = Literal["none", "sigma_sqrt", "cosmap"]
"""How much each noise level counts: all alike, or as in SD3, section 3.1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraConfig:
    """A low-rank adapter; the defaults are those that DeepGen was fine-tuned with."""

    rank: int = 64
    alpha: float = 128.0
    """The update is scaled by ``alpha / rank``."""
    dropout: float = 0.05
    """Of what the adapters of linear layers read, while training."""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank must be at least 1, got {self.rank}")
        if not 0 < self.alpha < math.inf:
            raise ValueError(f"alpha must be a positive number, got {self.alpha}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
