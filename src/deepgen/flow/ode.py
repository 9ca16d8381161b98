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
"""(noisy latents, index of the step) -> predictions of ``noise - latents``."""


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


def euler(
    velocity: Velocity, noise: Sequence[Latents], sigmas: Float[Tensor, " steps_and_end"]
) -> Iterator[Step]:
    """Integrate the velocity from noise (sigma 1) to latents (sigma 0), one step per item.

    In float32, whatever type the model computes in::

        latents += (sigma[k + 1] - sigma[k]) * velocity(latents, k)

    The caller may replace the latents of a step, and stop early.

    Args:
        velocity: Called once per step, with all images at once.
        noise: Start of each image; their sizes may differ. Not modified.
        sigmas: Falling noise levels that end with 0. They are read on the host once, so the loop
            never waits for the device.
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
