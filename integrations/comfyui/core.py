"""What the nodes do, without ComfyUI: tensors in its forms in, tensors in its forms out.

IMAGE is ``[batch, height, width, 3]`` in [0, 1]; MASK ``[batch, height, width]``, 1 where the image
may change; LATENT a dictionary with ``samples``, ``[batch, 16, height / 8, width / 8]`` as the
autoencoder has them, before scale and shift.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from deepgen.checkpoint.adapters import merge_lora
from deepgen.config.model import SIZE_UNIT
from deepgen.config.sizes import LATENT_SCALE
from deepgen.devices import pick_device
from deepgen.images.io import PNG_KEY
from deepgen.images.tensors import resize, to_image, to_pixels
from deepgen.pipeline.engine import Engine, Job
from deepgen.pipeline.pipeline import DeepGenPipeline
from deepgen.pipeline.request import parse_requests, parse_sampling

LATENT_CHANNELS = 16

SEEDS = 2**63
"""Of torch; ComfyUI's go up to 2^64 - 1 and are reduced to these."""

Progress = Callable[[int, int], None]
"""Called with the steps that are done, and their number."""


@dataclass(frozen=True)
class Conditioning:
    """A prompt with the images that it is about."""

    prompt: str
    negative_prompt: str | None
    references: tuple[Image.Image, ...] = ()


@dataclass(frozen=True)
class Settings:
    """Of sampling; None is the model's default."""

    seed: int = 0
    steps: int | None = None
    guidance: float | None = None


def load(
    model: str | Path, *, dtype: str = "auto", adapter: Path | None = None, scale: float = 1.0
) -> DeepGenPipeline:
    """A model, on a GPU if there is one.

    Args:
        model: ``mini`` or a model folder.
        dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        adapter: A LoRA adapter that is merged.
        scale: Of the adapter.

    Raises:
        CheckpointError: It cannot be loaded.
    """
    pipe = DeepGenPipeline.from_pretrained(model, dtype=dtype, device=pick_device("auto"))
    if adapter is not None:
        merge_lora(pipe.model, adapter, scale)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def conditioning(prompt: str, negative_prompt: str, images: Sequence[Tensor]) -> Conditioning:
    """A prompt with references, in their order; a batch is as many references.

    Args:
        prompt: What to make, or to change.
        negative_prompt: What to steer away from; "" is the model's default for the task.
        images: IMAGE tensors.
    """
    references = tuple(image for batch in images for image in to_images(batch))
    return Conditioning(prompt, negative_prompt or None, references)


def empty_latent(pipe: DeepGenPipeline, width: int, height: int, batch: int) -> dict[str, Tensor]:
    """A LATENT that says what size to make, and how many; 0 is the model's own size."""
    defaults = pipe.model.defaults
    height, width = height or defaults.height, width or defaults.width
    size = (batch, LATENT_CHANNELS, height // LATENT_SCALE, width // LATENT_SCALE)
    return {"samples": torch.zeros(size)}


def sample(
    pipe: DeepGenPipeline,
    wanted: Conditioning,
    latent: Mapping[str, Any],
    settings: Settings,
    progress: Progress,
) -> dict[str, Tensor]:
    """Latents of images; image *i* of the batch has ``seed + i``, as everywhere in deepgen.

    Args:
        pipe: The model.
        wanted: What to make.
        latent: Its size and batch count; its values do not.
        settings: Of sampling.
        progress: Called after every step.

    Raises:
        ValueError: The size is not a multiple of 32 pixels, or a setting cannot be used.
    """
    batch, _, rows, columns = latent["samples"].shape
    height, width = LATENT_SCALE * rows, LATENT_SCALE * columns
    if height % SIZE_UNIT or width % SIZE_UNIT:
        raise ValueError(f"the latent is for {width} x {height} pixels, expected multiples of 32")
    sampling = parse_sampling(settings.steps, settings.guidance, None, pipe.model.defaults)

    def tell(_: Any, step: int, __: float, ___: Any) -> dict[str, Any]:
        progress(step + 1, sampling.steps)
        return {}

    scaled = pipe(
        wanted.prompt,
        list(wanted.references) or None,
        negative_prompt=wanted.negative_prompt,
        height=height,
        width=width,
        num_inference_steps=sampling.steps,
        guidance_scale=sampling.guidance_scale,
        num_images_per_prompt=batch,
        seed=settings.seed % SEEDS,
        output_type="latent",
        callback_on_step_end=tell,
        callback_on_step_end_tensor_inputs=(),
    ).images
    return {"samples": (scaled / pipe.model.vae.scale + pipe.model.vae.shift).cpu()}


def decode(pipe: DeepGenPipeline, latent: Mapping[str, Any]) -> Tensor:
    """IMAGE of a LATENT."""
    vae = pipe.model.vae
    scaled = (latent["samples"].float().to(pipe.device) - vae.shift) * vae.scale
    with torch.no_grad():
        return from_images([to_image(each) for each in vae.decode(list(scaled))])


def encode(pipe: DeepGenPipeline, image: Tensor) -> dict[str, Tensor]:
    """LATENT of an IMAGE, at the nearest size that the model can make."""
    vae = pipe.model.vae
    pixels = []
    for each in to_images(image):
        sides = (max(SIZE_UNIT, round(side / SIZE_UNIT) * SIZE_UNIT) for side in each.size[::-1])
        pixels.append(to_pixels(resize(each, *sides)).to(pipe.device))
    with torch.no_grad():
        latents = torch.stack(vae.encode(pixels))
    return {"samples": (latents / vae.scale + vae.shift).cpu()}


def edit(
    pipe: DeepGenPipeline,
    wanted: Conditioning,
    mask: Tensor | None,
    settings: Settings,
    progress: Progress,
) -> tuple[Tensor, str]:
    """The first reference, changed, at its own size; and the record of how, as JSON.

    Args:
        pipe: The model.
        wanted: The instruction and the references.
        mask: A MASK of the first reference: outside of 1 its pixels stay; None for all of it.
        settings: Of sampling.
        progress: Called after every step.

    Raises:
        ValueError: There is no image, the mask has another size, or a setting cannot be used.
        RuntimeError: The image could not be made.
    """
    if not wanted.references:
        raise ValueError("an edit needs an image; connect one")
    model = pipe.model
    sampling = parse_sampling(settings.steps, settings.guidance, None, model.defaults)
    (request,) = parse_requests(
        wanted.prompt,
        list(wanted.references),
        negative_prompt=wanted.negative_prompt,
        height=None,
        width=None,
        latents=None,
        channels=LATENT_CHANNELS,
        defaults=model.defaults,
        max_side=model.max_side,
    )
    job = Job(
        id="edit",
        client="",
        request=request,
        sampling=sampling,
        seed=settings.seed % SEEDS,
        mask=None if mask is None else to_mask(mask, wanted.references[0]),
    )
    # The server's engine, which knows masks; with one job it computes what the pipeline does.
    engine = Engine(model, source=pipe._source)
    engine.submit(job)
    while True:
        for event in engine.tick():
            if event.kind == "step":
                progress(event.step, sampling.steps)
            elif event.kind == "failed":
                raise RuntimeError(event.message)
            elif event.image is not None and event.kind == "finished":
                return from_images([event.image]), record_of(event.image)


def record_of(image: Image.Image) -> str:
    """How an image was made, as JSON; "{}" where it is not known."""
    return str(image.info.get(PNG_KEY, "{}"))


def to_images(image: Tensor) -> list[Image.Image]:
    """IMAGE as RGB images; clipped before rounding."""
    levels = (255 * image[..., :3].float()).round().clamp(0, 255).to(torch.uint8)
    return [Image.fromarray(each.cpu().numpy()) for each in levels]


def from_images(images: Sequence[Image.Image]) -> Tensor:
    """IMAGE of RGB images of one size."""
    return torch.stack([(to_pixels(each).permute(1, 2, 0) + 1) / 2 for each in images])


def to_mask(mask: Tensor, first: Image.Image) -> Image.Image:
    """MASK as 255 where the image may change.

    Raises:
        ValueError: It has another size than the first image, or nothing may change.
    """
    values = mask.reshape(-1, *mask.shape[-2:])[0]
    if values.shape != (first.height, first.width):
        found, expected = tuple(values.shape[::-1]), first.size
        raise ValueError(f"the mask is of size {found}, expected the image's {expected}")
    if not (values > 0.5).any():
        raise ValueError("the mask is empty; paint where the image may change")
    return Image.fromarray((255 * (values > 0.5)).to(torch.uint8).cpu().numpy())
