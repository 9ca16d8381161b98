"""What a pipeline call returns: images as PIL, arrays or tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.utils import BaseOutput
from PIL import Image
from torch import Tensor

from deepgen.pipeline.parts import finished_image
from deepgen.pipeline.request import Request
from deepgen.types import Pixels

OUTPUT_TYPES = ("pil", "np", "pt", "latent")


@dataclass
class DeepGenPipelineOutput(BaseOutput):  # type: ignore[misc]
    """What a call returns."""

    images: Any
    """A list of PIL images, or by ``output_type`` an array or tensor, or a list of these where the
    images of a call differ in size."""
    seeds: list[int | None]
    """The seed that reproduces each image; None where a generator or latents were given."""


def check_output_type(output_type: str) -> None:
    """Refuse what images cannot be returned as.

    Raises:
        ValueError: It is not one of :data:`OUTPUT_TYPES`.
    """
    if output_type not in OUTPUT_TYPES:
        raise ValueError(f"output_type must be one of {OUTPUT_TYPES}, got {output_type!r}")


def stack(images: list[Tensor]) -> Tensor | list[Tensor]:
    """One tensor where all images have one size, else the list."""
    return torch.stack(images) if len({each.shape for each in images}) == 1 else images


def converted(
    decoded: Sequence[Pixels], requests: Sequence[Request], output_type: str
) -> list[Image.Image] | np.ndarray | Tensor | list[Any]:
    """Decoded images as the caller wants them.

    Args:
        decoded: Pixels in [-1, 1], one image per request.
        requests: They say to which size PIL images of edits are resized back.
        output_type: ``pil``; ``np`` ([0, 1], channels last) or ``pt`` ([0, 1], channels first).
    """
    if output_type == "pil":
        return [
            finished_image(each, request) for each, request in zip(decoded, requests, strict=True)
        ]
    unit = [(each / 2 + 0.5).clamp(0, 1) for each in decoded]
    if output_type == "pt":
        return stack(unit)
    arrays = [each.permute(1, 2, 0).cpu().numpy() for each in unit]
    return np.stack(arrays) if len({each.shape for each in arrays}) == 1 else arrays
