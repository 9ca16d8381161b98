"""The data flow on one page: prompt -> condition -> latents -> image.

Shapes are written with jaxtyping; the tests check them at every call. An axis whose name begins
with an underscore may differ between the images of one call.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Pixels = Float[Tensor, "3 _height _width"]
"""One image, channels first, in [-1, 1]; both sides multiples of 32."""

Latents = Float[Tensor, "latent_channels _height _width"]
"""One image's VAE latents after shift and scale: 16 channels, an eighth of the sides."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """What the VLM reads for one row: a text and the reference images it speaks of."""

    text: str
    references: tuple[Pixels, ...] = ()
    """In order; empty for text-to-image."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """What the bridge hands the DiT for one row.

    The public implementation lets padding take part in everything. All padding tokens of a row are
    one and the same vector, and neither the connector nor the DiT's context has positions, so the
    row keeps that vector once, in front, and counts it: attention over n equal keys is attention
    over one key whose logit is larger by ln n.
    """

    prompt_embeds: Float[Tensor, "tokens channels"]
    """Context tokens: at most one padding token, then prompt, then think tokens."""
    pooled_prompt_embeds: Float[Tensor, " pooled"]
    padding: int = 0
    """How many padding tokens the first context token stands for; 0 means it is a real one."""

    def expanded(self) -> Float[Tensor, "tokens channels"]:
        """Context with every padding token written out, as the public implementation has it."""
        if self.padding == 0:
            return self.prompt_embeds
        pads = self.prompt_embeds[:1].expand(self.padding, -1)
        return torch.cat([pads, self.prompt_embeds[1:]])
