"""From noise to image: Euler's method on the flow's differential equation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from deepgen.flow.path import clean_estimate
from deepgen.types import Latents

Velocity = Callable[[Sequence[Latents], int], Sequence[Latents]]
"""(noisy latents, index of the step) -> ``noise - latents`` as the model sees it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """What one Euler step did, for whoever watches the run."""

    index: int
    """0 for the first."""
    sigma: float
    """Noise level before the step."""
    latents: list[Latents]
    """Latents after the step. Replacing an entry changes what the next step starts from."""
    clean_latents: list[Latents]
    """Where this step's velocity says the images are; the last step's latents equal these."""


def euler(
    velocity: Velocity, noise: Sequence[Latents], sigmas: Float[Tensor, " steps_and_end"]
) -> Iterator[Step]:
    """Follow the velocity from noise (sigma 1) to latents (sigma 0), one step per item.

    In float32, whatever the model computes in::

        latents += (sigma[k + 1] - sigma[k]) * velocity(latents, k)

    Whoever iterates sees every step, may replace the latents, and ends the run by leaving it.

    Args:
        velocity: Called once per step, with all images at once.
        noise: Start of each image; their sizes may differ. Not modified.
        sigmas: Falling noise levels with the final 0. They are read on the host once, so the loop
            itself never waits for the device.
    """
    latents = [image.to(torch.float32, copy=True) for image in noise]
    levels = sigmas.tolist()
    for index in range(len(levels) - 1):
        sigma, following = levels[index], levels[index + 1]
        slopes = [slope.to(torch.float32) for slope in velocity(latents, index)]
        clean = [
            clean_estimate(image, slope, sigma)
            for image, slope in zip(latents, slopes, strict=True)
        ]
        latents = [
            image.add(slope, alpha=following - sigma)
            for image, slope in zip(latents, slopes, strict=True)
        ]
        yield Step(index=index, sigma=sigma, latents=latents, clean_latents=clean)
