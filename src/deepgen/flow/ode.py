"""From noise to image: solvers of the flow's differential equation.

Euler's method, with which the model was evaluated, and the Adams-Bashforth method of second order.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from deepgen.flow.path import clean_estimate
from deepgen.types import Latents


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """The result of one step."""

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


def extrapolated_velocity(
    velocity: Latents, previous: Latents, last_step: float, step: float
) -> Latents:
    """The mean velocity over the coming step, on a line through the last two velocities.

    An :func:`euler_step` along it is a step of Adams-Bashforth's method of second order, at one
    evaluation a step (Hairer, Norsett and Wanner, "Solving Ordinary Differential Equations I",
    section III.5; as a sampler of diffusion models: Zhang and Chen, arXiv 2204.13902)::

        velocity + step / (2 * last_step) * (velocity - previous)

    Args:
        velocity: Where the step begins.
        previous: Where the last step began.
        last_step: Change of sigma in the last step; not 0.
        step: Change of sigma in the coming step.

    Returns:
        The velocity in float32.
    """
    slope = velocity.to(torch.float32)
    return slope + step / (2 * last_step) * (slope - previous.to(torch.float32))
