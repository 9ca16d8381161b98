"""Latents and pixels: diffusers' autoencoder with the shift and scale that the DiT expects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from diffusers import AutoencoderKL
from torch import Generator, Tensor, nn

from deepgen.types import Latents, Pixels


@dataclass(frozen=True, slots=True)
class Posterior:
    """What the autoencoder holds possible for one picture, after shift and scale."""

    mean: Latents
    std: Latents

    def sample(self, noise: Latents) -> Latents:
        """Latents that standard normal noise picks out: ``mean + std * noise``, in float32."""
        return self.mean.float() + self.std.float() * noise


class LatentCodec(nn.Module):
    """Encodes pictures into latents of roughly unit variance, and decodes them.

    ``latents = (z - shift) * scale`` with the autoencoder's own ``shift_factor`` and
    ``scaling_factor``. Pictures of one size are computed together; nothing crosses samples.
    """

    def __init__(self, autoencoder: AutoencoderKL) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.shift = float(autoencoder.config.shift_factor or 0.0)
        self.scale = float(autoencoder.config.scaling_factor)

    @property
    def dtype(self) -> torch.dtype:
        """What the autoencoder computes in."""
        return cast(torch.dtype, self.autoencoder.dtype)

    def encode(self, pixels: Sequence[Pixels], generator: Generator | None = None) -> list[Latents]:
        """Latents of pictures in [-1, 1], in float32.

        The mean of the posterior, so that an edit depends on nothing but its seed; with a
        generator a sample of it, as in training (the public implementation samples always, from
        torch's global generator).
        """

        def encode_batch(batch: Tensor) -> Tensor:
            posterior = self.autoencoder.encode(batch.to(self.dtype)).latent_dist
            mean = cast(Tensor, posterior.mean).float()
            if generator is not None:
                noise = torch.randn(mean.shape, generator=generator, device=generator.device)
                mean = mean + posterior.std.float() * noise.to(mean.device)
            return (mean - self.shift) * self.scale

        return _by_size(pixels, encode_batch)

    def posteriors(self, pixels: Sequence[Pixels]) -> list[Posterior]:
        """What latents pictures in [-1, 1] may have, in float32; training draws from it."""

        def encode_batch(batch: Tensor) -> Tensor:
            posterior = self.autoencoder.encode(batch.to(self.dtype)).latent_dist
            mean = (posterior.mean.float() - self.shift) * self.scale
            return torch.stack([mean, posterior.std.float() * self.scale], dim=1)

        return [Posterior(mean, std) for mean, std in _by_size(pixels, encode_batch)]

    def decode(self, latents: Sequence[Latents]) -> list[Pixels]:
        """Pixels around [-1, 1] (not clamped), in float32."""

        def decode_batch(batch: Tensor) -> Tensor:
            unscaled = batch.float() / self.scale + self.shift
            return cast(Tensor, self.autoencoder.decode(unscaled.to(self.dtype)).sample).float()

        return _by_size(latents, decode_batch)


def _by_size(items: Sequence[Tensor], run: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """Run equally large items as one batch each, and return results in the items' order."""
    groups: dict[torch.Size, list[int]] = {}
    for index, item in enumerate(items):
        groups.setdefault(item.shape, []).append(index)
    results: dict[int, Tensor] = {}
    for members in groups.values():
        batch = run(torch.stack([items[index] for index in members]))
        results.update(zip(members, batch, strict=True))
    return [results[index] for index in range(len(items))]
