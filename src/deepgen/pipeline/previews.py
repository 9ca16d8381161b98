"""Small previews of images that form: a linear map from latents to colours, learned on the way.

A decoder pass for every step would take about as long as the step; this takes next to nothing.
"""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor

from deepgen.config.sizes import LATENT_SCALE
from deepgen.images.tensors import to_image
from deepgen.types import Latents, Pixels

RIDGE = 1e-3
"""Of the regression, relative to the number of cells: keeps it solvable after one plain image."""


class PreviewMap:
    """Predicts the mean colour of a latent cell from its channels, by least squares.

    Args:
        channels: Of the latents.
    """

    def __init__(self, channels: int) -> None:
        self._squares = torch.zeros(channels + 1, channels + 1, dtype=torch.float64)
        self._products = torch.zeros(channels + 1, 3, dtype=torch.float64)
        self._map: Tensor | None = None

    def learn(self, latents: Latents, pixels: Pixels) -> None:
        """Add a decoded image to the regression.

        Args:
            latents: Of the image.
            pixels: What the VAE decodes them to.
        """
        cells = _with_one(latents)
        colors = torch.nn.functional.avg_pool2d(pixels[None].float().cpu(), LATENT_SCALE)[0]
        self._squares += cells.T @ cells
        self._products += cells.T @ colors.flatten(1).T.double()
        self._map = None

    def __call__(self, latents: Latents) -> Image.Image:
        """The preview, a pixel per cell; grey while nothing has been learned."""
        if self._map is None:
            size = len(self._squares)
            ridge = RIDGE * (1 + self._squares[-1, -1]) * torch.eye(size, dtype=torch.float64)
            self._map = torch.linalg.solve(self._squares + ridge, self._products)
        colors = (_with_one(latents) @ self._map).T.unflatten(1, latents.shape[1:])
        return to_image(colors.float().nan_to_num())


def _with_one(latents: Latents) -> Tensor:
    """[cells, channels and a constant]."""
    cells = latents.flatten(1).T.double().cpu()
    return torch.cat([cells, cells.new_ones(len(cells), 1)], dim=1)
