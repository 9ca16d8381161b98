"""Latents as tokens and back: patches of 2 x 2 cells, with position embeddings."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deepgen.config.model import DiTConfig

BatchLatents = Float[Tensor, "batch latent_channels height width"]
Tokens = Float[Tensor, "batch tokens channels"]


class PatchEmbed(nn.Module):
    """Linear patch embedding plus a fixed table of positions, cropped around its centre.

    Every image, target or reference, gets the centre of the table, by its own size; only their
    content distinguishes them. Checkpoints bring their table; the one computed here is the start of
    training from scratch.
    """

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        self.side = config.pos_embed_max_size
        self.proj = nn.Conv2d(
            config.in_channels, config.width, config.patch_size, stride=config.patch_size
        )
        table = sinusoidal_table(config.width, self.side, config.sample_size // config.patch_size)
        self.pos_embed: Tensor
        self.register_buffer("pos_embed", table[None])

    def forward(self, latents: BatchLatents) -> Tokens:
        """Tokens of images of one size, in row-major order.

        Raises:
            ValueError: The table of positions is smaller than the images.
        """
        # The convolution as a product with its flattened kernel, without the overhead on CPU.
        size = self.patch_size
        patches = latents.unfold(2, size, size).unfold(3, size, size)
        patches = patches.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
        tokens = nn.functional.linear(patches, self.proj.weight.flatten(1), self.proj.bias)
        rows, columns = latents.shape[2] // size, latents.shape[3] // size
        return tokens + self.positions(rows, columns)

    def positions(self, rows: int, columns: int) -> Float[Tensor, "tokens channels"]:
        """The table's centre, ``rows`` x ``columns`` patches, in the type of the weights.

        Raises:
            ValueError: The table is smaller.
        """
        if max(rows, columns) > self.side:
            raise ValueError(
                f"the model has positions for {self.side} x {self.side} patches, "
                f"got {rows} x {columns}"
            )
        top, left = (self.side - rows) // 2, (self.side - columns) // 2
        table = self.pos_embed[0].view(self.side, self.side, -1)
        crop = table[top : top + rows, left : left + columns].flatten(0, 1)
        return crop.to(self.proj.weight.dtype)


def sinusoidal_table(width: int, side: int, base_side: int) -> Float[Tensor, "places channels"]:
    """Fixed sinusoidal positions of a square of ``side`` patches, in row-major order.

    The first half of the channels encodes the column, the second the row, each with sines, then
    cosines; one patch is a distance of ``base_side / side`` (SD3, section 5.3.2).
    """
    frequencies = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    places = torch.arange(side, dtype=torch.float64) * (base_side / side)
    angles = places[:, None] * frequencies
    line = torch.cat([angles.sin(), angles.cos()], dim=1).float()
    by_column = line[None].expand(side, -1, -1)
    by_row = line[:, None].expand(-1, side, -1)
    return torch.cat([by_column, by_row], dim=2).flatten(0, 1)


def unpatchify(tokens: Tokens, rows: int, columns: int, patch_size: int) -> BatchLatents:
    """Latents of output tokens; inside a token the channel is the fastest axis."""
    cells = tokens.unflatten(1, (rows, columns)).unflatten(3, (patch_size, patch_size, -1))
    latents: Tensor = cells.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
    return latents
