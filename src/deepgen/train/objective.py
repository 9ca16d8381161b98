"""What training minimises: the flow-matching loss, and the autoencoder's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from deepgen.flow.path import interpolate
from deepgen.model import DeepGen
from deepgen.types import Latents, Prompt

Pictures = Float[Tensor, "batch 3 height width"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FlowBatch:
    """Pictures to learn, what was said about them and what they were made from."""

    latents: Float[Tensor, "batch channels height width"]
    prompts: Sequence[Prompt]
    """With the references that the VLM sees."""
    reference_latents: Sequence[Sequence[Latents]]


class FlowObjective:
    """Flow matching: the DiT predicts the velocity of noised latents (SD3, equation 13).

    Noise levels are drawn uniformly from the schedule's training levels, whose shift already
    favours noise; every sample counts alike.
    """

    def __init__(self, sigmas: Float[Tensor, " timesteps"]) -> None:
        self.sigmas = sigmas

    def __call__(
        self, model: DeepGen, batch: FlowBatch, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Mean squared error of the velocity, in float32."""
        count = len(batch.latents)
        uniform = torch.rand(count, generator=generator)
        # Multiplied in float32, as the public implementation does: 0.137 is index 137 there.
        sigmas = self.sigmas[(uniform * len(self.sigmas)).long()]
        noise = torch.randn(batch.latents.shape, generator=generator)
        noisy, velocity = interpolate(batch.latents, noise, sigmas)
        conditions, _ = model.conditioner.encode(batch.prompts, [], padding="none", guided=False)
        predicted = model.dit(list(noisy), 1000 * sigmas, conditions, batch.reference_latents)
        errors = torch.stack(
            [
                (mine.float() - true).square().mean()
                for mine, true in zip(predicted, velocity, strict=True)
            ]
        )
        return {"loss": errors.mean()}


class AutoencoderObjective:
    """Reconstruction, with outlines weighted up, and a light pull towards a standard normal.

    Flat colour fills most of a pictogram, so the mean error hardly sees its outline; the error of
    neighbouring differences sees little else.
    """

    def __init__(self, *, edges: float = 0.5, divergence: float = 6e-4) -> None:
        self.edges = edges
        self.divergence = divergence

    def __call__(
        self, model: Any, batch: Pictures, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """``L1 + MSE + edges * L1 of differences + divergence * KL per latent value``."""
        posterior = model.encode(batch).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator)
        decoded = model.decode(posterior.mean + posterior.std * noise).sample
        error = decoded - batch
        pixels = error.abs().mean() + error.square().mean()
        edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        divergence = 0.5 * (posterior.mean**2 + posterior.var - 1 - posterior.logvar).mean()
        loss = pixels + self.edges * edges + self.divergence * divergence
        parts = {"pixels": pixels, "edges": edges, "divergence": divergence}
        return {"loss": loss, **{name: part.detach() for name, part in parts.items()}}
