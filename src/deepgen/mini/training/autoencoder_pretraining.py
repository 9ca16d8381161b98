"""Training of the mini's autoencoder: crops of its world's images into latents and back."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch

from deepgen.images.tensors import to_pixels
from deepgen.mini.training.samples import SIDE
from deepgen.mini.world.drawing import draw
from deepgen.mini.world.sampling import DRAWING_KINDS, sample
from deepgen.train.objective import Images

CROP = 64
"""Side in pixels: a convolutional network learns as much from parts of images, which fit a CPU's
caches."""

SIDES = (64, SIDE, SIDE, SIDE, 128)
"""Sides of the images that crops are cut from, in pixels; most are of the model's own size."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CropBatches:
    """The one micro-batch of a step, by the step's number; picklable."""

    batch_size: int

    def __call__(self, step: int) -> list[Images]:
        """Render the crops of a step."""
        first = step * self.batch_size
        crops = [crop(first + index) for index in range(self.batch_size)]
        return [torch.stack(crops).contiguous(memory_format=torch.channels_last)]


def crop(number: int) -> torch.Tensor:
    """Crop ``number``, [3, CROP, CROP] in [-1, 1], of an image that shows nothing held out."""
    # The string is a seed: to change it is to change every crop.
    rng = random.Random(f"autoencoder crop, {number}")
    side = rng.choice(SIDES)
    scene = sample(number, kind=rng.choice(DRAWING_KINDS), canvas=(side, side)).target
    top, left = rng.randint(0, side - CROP), rng.randint(0, side - CROP)
    return to_pixels(draw(scene).crop((left, top, left + CROP, top + CROP)))
