"""The parts of making an image, besides denoising: what the pipeline and the engine both do."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from PIL import Image
from torch import Generator, Tensor

from deepgen.conditioning.encoder import Conditioner
from deepgen.config.sizes import LATENT_SCALE
from deepgen.flow.guidance import is_guided
from deepgen.images.io import PNG_KEY, image_record
from deepgen.images.provenance import SOURCE_KEY, source_of
from deepgen.images.tensors import resize, to_image, to_pixels
from deepgen.model import DeepGen
from deepgen.pipeline.request import Request, Sampling
from deepgen.types import Condition, Latents, Pixels, Prompt
from deepgen.vae import LatentCodec


def reference_pixels(request: Request, device: torch.device) -> tuple[Pixels, ...]:
    """References as the model gets them: resized, in [-1, 1], on the device."""
    return tuple(
        to_pixels(resize(each.image, each.height, each.width)).to(device)
        for each in request.references
    )


def encode_prompts(
    conditioner: Conditioner,
    requests: Sequence[Request],
    pixels: Sequence[tuple[Pixels, ...]],
    sampling: Sampling,
) -> tuple[list[Condition], list[Condition]]:
    """Positive and negative conditions per request; the latter are empty without guidance.

    Args:
        conditioner: VLM and bridge.
        requests: Their prompts.
        pixels: References of each request.
        sampling: Padding, and whether there is guidance.

    Raises:
        ValueError: A prompt is too long.
    """
    pairs = list(zip(requests, pixels, strict=True))
    positive, negative = conditioner.encode(
        [Prompt(text=each.prompt, references=row) for each, row in pairs],
        [Prompt(text=each.negative_prompt, references=row) for each, row in pairs],
        padding=sampling.padding,
        guided=is_guided(sampling.guidance_scale),
    )
    return positive, negative or []


def encode_references(
    vae: LatentCodec, pixels: Sequence[tuple[Pixels, ...]]
) -> list[list[Latents]]:
    """Clean latents of every request's references (mean of the posterior)."""
    if not any(pixels):
        return [[] for _ in pixels]
    latents = iter(vae.encode([each for row in pixels for each in row]))
    return [[next(latents) for _ in row] for row in pixels]


def initial_noise(model: DeepGen, request: Request, generator: Generator) -> Latents:
    """What an image begins from, in float32 on the generator's device."""
    size = (request.height // LATENT_SCALE, request.width // LATENT_SCALE)
    return torch.randn(
        (model.dit.config.in_channels, *size),
        generator=generator,
        device=generator.device,
        dtype=torch.float32,
    )


def kept_cells(mask: Image.Image, height: int, width: int) -> Bool[Tensor, "rows columns"]:
    """Which latents stay those of the original: all whose pixels and neighbours must not change.

    Args:
        mask: 255 where the image may change, of any size.
        height: Of the generated image in pixels.
        width: As ``height``.
    """
    rows, columns = height // LATENT_SCALE, width // LATENT_SCALE
    # By area, so that a cell with any changing pixel is above 0.
    values = np.asarray(mask.convert("F").resize((columns, rows), Image.Resampling.BOX))
    changing = torch.from_numpy(values > 0)[None].float()
    grown = torch.nn.functional.max_pool2d(changing, 3, stride=1, padding=1)[0]
    return grown == 0


def check_finite(pixels: Pixels, dtype: torch.dtype) -> None:
    """Refuse an image with NaN or infinity in it.

    Raises:
        FloatingPointError: There is one.
    """
    if not pixels.isfinite().all():
        raise FloatingPointError(
            f"the images are not finite in {dtype}; try dtype float32, or no adapters"
        )


def finished_image(pixels: Pixels, request: Request) -> Image.Image:
    """The image that the user gets: of an edit, at its first reference's original size."""
    image = to_image(pixels)
    return image if request.output_size is None else resize(image, *request.output_size)


def record(
    image: Image.Image,
    request: Request,
    *,
    seed: int | None,
    sampling: Sampling,
    model: str | None,
    further: Mapping[str, Any] | None = None,
) -> None:
    """Leave in an image how it was made, for :func:`deepgen.images.io.save_image`."""
    made = image_record(
        image,
        prompt=request.prompt,
        seed=seed,
        steps=sampling.steps,
        guidance=sampling.guidance_scale,
        model=model,
        further=further,
    )
    image.info[PNG_KEY] = json.dumps(made)
    state_source(image, request)


def state_source(image: Image.Image, request: Request) -> None:
    """Leave in an image that a model made it, which its file then states."""
    image.info[SOURCE_KEY] = source_of(is_edit=bool(request.references))
