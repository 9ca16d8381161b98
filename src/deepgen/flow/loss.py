"""The flow-matching loss of each sample, and weights of noise levels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from deepgen.config.train import Weighting
from deepgen.types import Latents


def level_weights(sigmas: Float[Tensor, " batch"], weighting: Weighting) -> Float[Tensor, " batch"]:
    """Weight of each noise level: 1, ``1 / sigma^2`` or ``2 / (pi (1 - 2 sigma + 2 sigma^2))``.

    The latter two are those of SD3 (arXiv 2403.03206, section 3.1); DeepGen uses 1.
    """
    if weighting == "sigma_sqrt":
        return sigmas**-2.0
    if weighting == "cosmap":
        return 2 / (math.pi * (1 - 2 * sigmas + 2 * sigmas**2))
    return torch.ones_like(sigmas)


def velocity_errors(
    predicted: Sequence[Latents], true: Sequence[Latents], weights: Float[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """Weighted mean squared error of each sample, in float32.

    Each is the mean over its own latents, so that images of all sizes count equally.

    Args:
        predicted: Of the DiT.
        true: ``noise - latents``, of the same sizes.
        weights: See :func:`level_weights`.
    """
    errors = [
        (mine.float() - other.float()).square().mean()
        for mine, other in zip(predicted, true, strict=True)
    ]
    return weights * torch.stack(errors)
