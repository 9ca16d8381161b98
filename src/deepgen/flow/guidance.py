"""Classifier-free guidance (Ho and Salimans, arXiv 2207.12598)."""

from __future__ import annotations

from torch import Tensor


def is_guided(guidance_scale: float) -> bool:
    """Whether the negative prompt has any influence; at 1 or below it is not even computed."""
    return guidance_scale > 1.0


def guide(negative: Tensor, positive: Tensor, guidance_scale: float) -> Tensor:
    """Push the velocity away from the negative prompt: ``neg + g (pos - neg)``."""
    return negative + guidance_scale * (positive - negative)
