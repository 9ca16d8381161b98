"""Classifier-free guidance (Ho and Salimans, arXiv 2207.12598)."""

from __future__ import annotations

from torch import Tensor


def is_guided(guidance_scale: float) -> bool:
    """Whether the negative prompt has any influence; at 1 or below it is not computed."""
    return guidance_scale > 1.0


def guide(negative: Tensor, positive: Tensor, guidance_scale: float) -> Tensor:
    """Guided velocity: ``negative + guidance_scale * (positive - negative)``.

    Args:
        negative: Velocity with the negative prompt, of any shape.
        positive: Velocity with the prompt, of the same shape.
        guidance_scale: 1 is the prompt alone.
    """
    return negative + guidance_scale * (positive - negative)


def rescale(guided: Tensor, positive: Tensor, strength: float) -> Tensor:
    """Bring the spread of a guided velocity back towards that with the prompt alone.

    Lin et al., arXiv 2305.08891, equations 15 and 16; it counters too strong colors at high
    guidance scales::

        strength * guided * std(positive) / std(guided) + (1 - strength) * guided

    Args:
        guided: Velocity of one image, as :func:`guide` returns it.
        positive: Velocity with the prompt, of the same shape.
        strength: From 0, no change, to 1.
    """
    return guided * (strength * positive.std() / guided.std() + (1 - strength))
