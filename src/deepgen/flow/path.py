"""The straight path between an image and noise (rectified flow).

Source: Liu et al., "Flow Straight and Fast" (arXiv 2209.03003); SD3, section 2 (arXiv 2403.03206).
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

BatchLatents = Float[Tensor, "batch channels height width"]


def interpolate(
    latents: BatchLatents, noise: BatchLatents, sigmas: Float[Tensor, " batch"]
) -> tuple[BatchLatents, BatchLatents]:
    """Noise clean latents and return the velocity that would undo it.

    Rectified flow, with sigma counting noise rather than data::

        noisy    = (1 - sigma) * latents + sigma * noise
        velocity = d noisy / d sigma = noise - latents

    Args:
        latents: VAE latents after scale and shift, roughly unit variance.
        noise: Standard normal, of the same shape.
        sigmas: One noise fraction in [0, 1] per sample.
    """
    sigma = sigmas[:, None, None, None]
    return (1 - sigma) * latents + sigma * noise, noise - latents


def clean_estimate(noisy: Tensor, velocity: Tensor, sigma: float) -> Tensor:
    """The clean latents that a velocity predicts: ``noisy - sigma * velocity``."""
    return noisy - sigma * velocity
