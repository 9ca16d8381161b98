"""Latents and pixels: diffusers' autoencoder with the shift and scale that the DiT expects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from diffusers import AutoencoderKL
from jaxtyping import Float
from torch import Tensor, nn

from deepgen.config.sizes import LATENT_SCALE
from deepgen.types import Latents, Pixels

# Four images of 512 px: enough for any GPU, and activations stay below 2 GB in bfloat16. A batch of
# 32 images of 1024 px as a whole would need 50 GB.
ACCELERATOR_PIXELS = 2**20


@dataclass(frozen=True, slots=True)
class Posterior:
    """The autoencoder's posterior of one image's latents, after shift and scale."""

    mean: Latents
    std: Latents

    def sample(self, noise: Latents) -> Latents:
        """``mean + std * noise`` in float32, for standard normal noise."""
        return self.mean.float() + self.std.float() * noise


class LatentCodec(nn.Module):
    """Encodes images into latents of roughly unit variance, and decodes them.

    ``latents = (z - shift) * scale`` with the autoencoder's own ``shift_factor`` and
    ``scaling_factor``. Images of one size are computed as a batch, without influence on each other.
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

    def encode(self, pixels: Sequence[Pixels]) -> list[Latents]:
        """Latents of images in [-1, 1], in float32.

        The mean of the posterior, so that an edit depends on nothing but its seed (the public
        implementation draws a sample, from torch's global generator).
        """
        return [each.mean for each in self.posteriors(pixels)]

    def posteriors(self, pixels: Sequence[Pixels]) -> list[Posterior]:
        """Posteriors of the latents of images in [-1, 1], in float32, to sample from."""
        return [
            self.posterior(each) for each in self._by_size(pixels, self.posterior_parameters, 1)
        ]

    def decode(self, latents: Sequence[Latents]) -> list[Pixels]:
        """Pixels around [-1, 1] (not clamped), in float32."""

        def decode_batch(batch: Tensor) -> Tensor:
            unscaled = batch.float() / self.scale + self.shift
            return cast(Tensor, self.autoencoder.decode(unscaled.to(self.dtype)).sample).float()

        return self._by_size(latents, decode_batch, LATENT_SCALE)

    def posterior_parameters(
        self, pixels: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch parameter_channels latent_height latent_width"]:
        """Mean and log-variance of the posterior, concatenated, before shift and scale."""
        posterior = self.autoencoder.encode(pixels.to(self.dtype)).latent_dist
        return torch.cat([posterior.mean, posterior.logvar], dim=1).float()

    def posterior(
        self, parameters: Float[Tensor, "parameter_channels _height _width"]
    ) -> Posterior:
        """The posterior with this mean and log-variance, in float32."""
        mean, logvar = parameters.float().chunk(2)
        return Posterior((mean - self.shift) * self.scale, (logvar / 2).exp() * self.scale)

    def _by_size(
        self, items: Sequence[Tensor], run: Callable[[Tensor], Tensor], scale: int
    ) -> list[Tensor]:
        """Run the items of each size as one batch, on an accelerator as several if it is large.

        Args:
            items: Images or latents.
            run: Computes a batch.
            scale: Pixels along each side of a cell of an item.

        Returns:
            Results in the items' order.
        """
        groups: dict[torch.Size, list[int]] = {}
        for index, item in enumerate(items):
            groups.setdefault(item.shape, []).append(index)
        is_on_cpu = next(self.parameters()).is_cpu
        results: dict[int, Tensor] = {}
        for shape, members in groups.items():
            pixels = shape[1] * shape[2] * scale**2
            at_once = len(members) if is_on_cpu else max(1, ACCELERATOR_PIXELS // pixels)
            for start in range(0, len(members), at_once):
                some = members[start : start + at_once]
                batch = run(torch.stack([items[index] for index in some]))
                results.update(zip(some, batch, strict=True))
        return [results[index] for index in range(len(items))]
