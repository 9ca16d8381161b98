"""The two sides that the scripts here compare: our denoising loop, and diffusers' transformer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import SD3Transformer2DModel
from torch import Tensor

from deepgen.config.model import DiTConfig, ScheduleConfig
from deepgen.dit.model import DiT
from deepgen.flow.schedule import sampling_sigmas
from deepgen.types import Condition, Latents

GUIDANCE_SCALE = 4.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """What is generated: one batch of images of one size, with guidance."""

    images: int = 1
    height: int = 64
    """Height of the latents."""
    width: int = 64
    context_tokens: int = 160
    references: int = 0
    """How many per image, each as large as the image."""
    steps: int = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """Random inputs of a case; rows are the negative half, then the positive."""

    noise: Tensor
    references: Tensor
    """Inputs of one image; all images share them."""
    context: Tensor
    pooled: Tensor
    sigmas: Tensor


def random_inputs(case: Case, config: DiTConfig, dtype: torch.dtype, device: str) -> Inputs:
    """Random inputs of a case."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device)

    rows, size = 2 * case.images, (config.in_channels, case.height, case.width)
    return Inputs(
        noise=normal(case.images, *size),
        references=normal(case.references, *size),
        context=normal(rows, case.context_tokens, config.joint_attention_dim).to(dtype),
        pooled=normal(rows, config.pooled_projection_dim).to(dtype),
        sigmas=sampling_sigmas(case.steps, ScheduleConfig(), tokens=case.height * case.width // 4),
    )


def stock_transformer(config: DiTConfig) -> Any:
    """diffusers' transformer with the same sizes."""
    return SD3Transformer2DModel(**dataclasses.asdict(config))


def our_loop(dit: DiT, inputs: Inputs) -> Tensor:
    """Denoise with our DiT, including what is prepared once per image."""
    conditions = [
        Condition(prompt_embeds=context, pooled_prompt_embeds=pooled)
        for context, pooled in zip(inputs.context, inputs.pooled, strict=True)
    ]
    rows, size = len(conditions), (inputs.noise.shape[2], inputs.noise.shape[3])
    prepared = dit.prepare(
        conditions, [size] * rows, 1000 * inputs.sigmas[:-1], [list(inputs.references)] * rows
    )

    def velocity(latents: Tensor, step: int) -> Sequence[Latents]:
        return dit.velocity([*latents, *latents], step, prepared)

    return _denoise(velocity, inputs)


def stock_loop(transformer: Any, inputs: Inputs) -> Tensor:
    """Denoise with diffusers' transformer.

    It has no references. Their latents are placed below the image's, as if it were that much
    taller: this costs what attention to references costs without further optimisation.
    """
    dtype = inputs.context.dtype
    height = inputs.noise.shape[2]
    below = torch.cat(list(inputs.references), dim=1) if len(inputs.references) else None

    def velocity(latents: Tensor, step: int) -> Tensor:
        whole = torch.cat([latents, latents]).to(dtype)
        if below is not None:
            whole = torch.cat([whole, below.to(dtype).expand(len(whole), -1, -1, -1)], dim=2)
        timesteps = (1000 * inputs.sigmas[step]).expand(len(whole)).to(whole.device)
        (out,) = transformer(whole, inputs.context, inputs.pooled, timesteps, return_dict=False)
        target: Tensor = out[:, :, :height].float()
        return target

    return _denoise(velocity, inputs)


def _denoise(
    velocity: Callable[[Tensor, int], Sequence[Latents] | Tensor], inputs: Inputs
) -> Tensor:
    latents = inputs.noise
    for step in range(len(inputs.sigmas) - 1):
        rows = velocity(latents, step)
        negative, positive = (
            torch.stack(list(half)) for half in (rows[: len(latents)], rows[len(latents) :])
        )
        guided = negative + GUIDANCE_SCALE * (positive - negative)
        latents = latents + (inputs.sigmas[step + 1] - inputs.sigmas[step]).item() * guided
    return latents
