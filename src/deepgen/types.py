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
    """Input of the VLM for one row: a text and the reference images that it refers to."""

    text: str
    references: tuple[Pixels, ...] = ()
    """In order; empty for text-to-image."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """The bridge's output for one row, which conditions the DiT.

    In the public implementation padding takes part in all attention. All padding tokens of a row
    are one and the same vector, and neither the connector nor the DiT's context has positions, so
    the row has that vector once, in front, with its count: attention over n equal keys equals
    attention over one key whose logit is larger by ln n.
    """

    prompt_embeds: Float[Tensor, "tokens channels"]
    """Context tokens: at most one padding token, then prompt, then think tokens."""
    pooled_prompt_embeds: Float[Tensor, " pooled"]
    padding: int = 0
    """How many padding tokens the first context token represents; 0 if it is a real one."""

    def expanded(self) -> Float[Tensor, "tokens channels"]:
        """Context with every padding token written out, as in the public implementation."""
        if self.padding == 0:
            return self.prompt_embeds
        pads = self.prompt_embeds[:1].expand(self.padding, -1)
        return torch.cat([pads, self.prompt_embeds[1:]])
