"""From noise to image: Euler's method on the flow's differential equation."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from deepgen.flow.path import clean_estimate
from deepgen.types import Latents


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """The result of one Euler step."""

    index: int
    """0 for the first."""
    sigma: float
    """Noise level before the step."""
    latents: list[Latents]
    """Latents after the step. Replacing an entry changes what the next step starts from."""
    clean_latents: list[Latents]
    """The clean latents that this step's velocity predicts; after the last step, ``latents``."""


def euler_step(
    latents: Latents, velocity: Latents, sigma: float, following: float
) -> tuple[Latents, Latents]:
    """One step of Euler's method, in float32 whatever type the model computes in.

    ``latents + (following - sigma) * velocity``

    Args:
        latents: At noise level ``sigma``.
        velocity: Predicted there: ``noise - latents``.
        sigma: From 1, noise, to 0.
        following: Noise level after the step, below ``sigma``.

    Returns:
        Latents after the step, and the clean ones that the velocity predicts.
    """
    slope = velocity.to(torch.float32)
    return latents.add(slope, alpha=following - sigma), clean_estimate(latents, slope, sigma)
