"""What training minimises: the flow-matching loss, and that of the autoencoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from deepgen.config.model import Padding
from deepgen.config.train import Levels, Weighting
from deepgen.devices import send
from deepgen.flow.loss import level_weights, velocity_errors
from deepgen.flow.path import interpolate
from deepgen.model import DeepGen
from deepgen.train.monitor.flops import SampleLengths
from deepgen.train.monitor.sigma_bins import SigmaBins
from deepgen.train.sample_rng import Purpose, SampleKey, SampleRng
from deepgen.types import Condition, Latents, Prompt
from deepgen.vae import Posterior

Images = Float[Tensor, "batch 3 height width"]

PATCH_CELLS = 4
"""Latent cells of a token of the DiT: 2 x 2."""

PATCH_PIXELS = 256
"""Pixels of a patch of the vision tower, as the DiT counts them: 16 x 16."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Loss:
    """What one micro-batch adds to the loss of a step and to the log."""

    total: Float[Tensor, ""]
    """Minimised; the totals of all micro-batches of a step, on all processes, are added up."""
    parts: Mapping[str, Tensor]
    """Scalars to report, added up likewise."""
    means: Mapping[str, tuple[Tensor, Tensor | int | float]] = field(default_factory=dict)
    """Sum and count of what is to be reported as a mean, such as a fraction of tokens: both are
    added up over micro-batches, processes and the steps of a line of the log, and then divided."""
    samples: Float[Tensor, " batch"] | None = None
    """Loss of each sample, before its weight."""
    sample_ids: Sequence[str] = ()
    """Ids of the samples."""
    groups: Sequence[tuple[str, ...]] = ()
    """Per sample, the names that its loss is logged under as ``loss/NAME``."""
    work: Mapping[str, float] = field(default_factory=dict)
    """Amounts that speed is measured in: images, tokens, floating-point operations."""
    skip: str = ""
    """What the step lacks, where it must not be made: nothing to learn from, for example."""
    stop: str = ""
    """Why the run has to end after this step, which is saved, where it has to."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FlowBatch:
    """Latents to learn, with their prompts and references."""

    latents: Sequence[Latents | Posterior]
    """Targets; a posterior of the autoencoder is sampled anew in every epoch."""
    prompts: Sequence[Prompt]
    """With the references that the VLM sees."""
    reference_latents: Sequence[Sequence[Latents | Posterior]]
    keys: Sequence[SampleKey]
    weights: Float[Tensor, " batch"]
    """Fraction of each sample in the loss of the step. They sum to 1 over all micro-batches of the
    step, on all processes: 1 / samples where all count alike, fraction of the task / its samples
    where tasks are balanced."""
    prompts_truncated: int = 0
    """How many of the prompts were truncated, because they were too long."""


class FlowObjective:
    """Flow matching: the DiT predicts the velocity of noised latents (SD3, equation 13).

    Noise levels are drawn uniformly from the schedule's training levels, whose shift already
    favours noise; a sample counts by its weight, whatever its size. References are not noised, and
    prompts of edits are never dropped.

    Args:
        sigmas: The training levels of the schedule, descending from 1.
        rng: Random numbers of each sample.
        caption_drop: Fraction of text-to-image prompts that are emptied, for guidance.
        padding: How prompts are padded; ``batch`` is what the public implementation trains with.
        levels: How noise levels are drawn.
        weighting: How much each noise level counts.
        autocast: Compute in this dtype although weights are float32; None computes in theirs.
        round_sigmas: Add noise by levels rounded to bfloat16 while the DiT gets the exact ones, as
            the public implementation does.
        cost: Floating-point operations of a sample, for the log; None if they are not needed.
    """

    def __init__(
        self,
        sigmas: Float[Tensor, " timesteps"],
        rng: SampleRng,
        *,
        caption_drop: float = 0.0,
        padding: Padding = "none",
        levels: Levels = "uniform",
        weighting: Weighting = "none",
        autocast: torch.dtype | None = None,
        round_sigmas: bool = False,
        cost: Callable[[SampleLengths], float] | None = None,
    ) -> None:
        self.sigmas = sigmas
        self.sigma_bins = SigmaBins(sigmas)
        self.cost = cost
        self.rng = rng
        self.caption_drop = caption_drop
        self.padding = padding
        self.levels = levels
        self.weighting = weighting
        self.autocast = autocast
        self.round_sigmas = round_sigmas

    def __call__(self, model: DeepGen, batch: FlowBatch, generator: torch.Generator) -> Loss:
        """Mean squared error of the velocity, in float32."""
        device = model.device
        latents = [
            send(self._sampled(each, key, Purpose.TARGET_POSTERIOR), device)
            for each, key in zip(batch.latents, batch.keys, strict=True)
        ]
        references = [
            [
                send(self._sampled(each, key, Purpose.REFERENCE_POSTERIOR + place), device)
                for place, each in enumerate(own)
            ]
            for own, key in zip(batch.reference_latents, batch.keys, strict=True)
        ]
        sigmas = torch.stack([self._sigma(key) for key in batch.keys])
        noisy, velocity = self._noise(latents, batch.keys, sigmas)
        prompts = [
            self._prompt(each, key) for each, key in zip(batch.prompts, batch.keys, strict=True)
        ]
        with torch.autocast(device.type, self.autocast, enabled=self.autocast is not None):
            conditions, _ = model.conditioner.encode(
                prompts, [], padding=self.padding, guided=False
            )
            predicted = model.dit(noisy, 1000 * sigmas, conditions, references)
        weights = send(level_weights(sigmas, self.weighting), device)
        errors = velocity_errors(predicted, velocity, weights)
        total = (errors * send(batch.weights, device)).sum()
        return Loss(
            total=total,
            parts={
                "loss": total.detach(),
                "prompts_truncated": torch.tensor(float(batch.prompts_truncated)),
            },
            samples=errors.detach(),
            sample_ids=[key.sample for key in batch.keys],
            groups=[
                ("edit" if prompt.references else "t2i", self.sigma_bins.name(sigma))
                for prompt, sigma in zip(prompts, sigmas.tolist(), strict=True)
            ],
            work=self._work(latents, references, prompts, conditions),
        )

    def _work(
        self,
        latents: Sequence[Latents],
        references: Sequence[Sequence[Latents]],
        prompts: Sequence[Prompt],
        conditions: Sequence[Condition],
    ) -> dict[str, float]:
        """Images, tokens of the DiT and operations of a micro-batch; padding does not count."""
        samples = [
            SampleLengths(
                image=sum(each.shape[1] * each.shape[2] // PATCH_CELLS for each in (own, *others)),
                context=len(condition.prompt_embeds) - min(condition.padding, 1),
                patches=tuple(
                    each.shape[1] * each.shape[2] // PATCH_PIXELS for each in prompt.references
                ),
            )
            for own, others, prompt, condition in zip(
                latents, references, prompts, conditions, strict=True
            )
        ]
        work = {
            "images": float(len(samples)),
            "tokens": float(sum(each.image + each.context for each in samples)),
        }
        if self.cost is not None:
            work["flops"] = sum(self.cost(each) for each in samples)
        return work

    def _sigma(self, key: SampleKey) -> Float[Tensor, ""]:
        """The noise level of a sample in an epoch."""
        if self.levels == "uniform":
            value = torch.tensor(self.rng.uniform(key, Purpose.LEVEL), dtype=torch.float32)
        else:
            value = self.rng.normal(key, Purpose.LEVEL, torch.Size([1]))[0].sigmoid()
        # Multiplied in float32, as the public implementation does: 0.137 is index 137 there. A
        # sigmoid may round to 1.
        index = (value * len(self.sigmas)).long().clamp(max=len(self.sigmas) - 1)
        return self.sigmas[index]

    def _noise(
        self,
        latents: Sequence[Latents],
        keys: Sequence[SampleKey],
        sigmas: Float[Tensor, " batch"],
    ) -> tuple[list[Latents], list[Latents]]:
        """Noisy latents and true velocities."""
        if self.round_sigmas:
            sigmas = sigmas.bfloat16().float()
        noisy, velocities = [], []
        for clean, key, sigma in zip(latents, keys, sigmas, strict=True):
            noise = send(self.rng.normal(key, Purpose.NOISE, clean.shape), clean.device)
            level = send(sigma[None], clean.device)
            mixed, velocity = interpolate(clean[None], noise[None], level)
            noisy.append(mixed[0])
            velocities.append(velocity[0])
        return noisy, velocities

    def _prompt(self, prompt: Prompt, key: SampleKey) -> Prompt:
        """The prompt, or the empty one with the probability ``caption_drop``."""
        if prompt.references or not self.caption_drop:
            return prompt
        if self.rng.uniform(key, Purpose.CAPTION_DROP) >= self.caption_drop:
            return prompt
        return replace(prompt, text="")

    def _sampled(self, latents: Latents | Posterior, key: SampleKey, purpose: int) -> Latents:
        """Given latents in float32, or a sample of the autoencoder's posterior."""
        if not isinstance(latents, Posterior):
            return latents.float()
        noise = self.rng.normal(key, purpose, latents.mean.shape)
        return latents.sample(send(noise, latents.mean.device))


class AutoencoderObjective:
    """Reconstruction with extra weight on edges, and a small KL divergence to a standard normal.

    Flat colour fills most of a pictogram, so its outline has little weight in the mean error; in
    the error of differences between neighbouring pixels it has nearly all.
    """

    def __init__(self, *, edges: float = 0.5, divergence: float = 6e-4) -> None:
        self.edges = edges
        self.divergence = divergence

    def __call__(self, model: Any, batch: Images, generator: torch.Generator) -> Loss:
        """``L1 + MSE + edges * L1 of differences + divergence * KL per latent value``."""
        batch = send(batch, model.device)
        posterior = model.encode(batch).latent_dist
        noise = send(torch.randn(posterior.mean.shape, generator=generator), model.device)
        decoded = model.decode(posterior.mean + posterior.std * noise).sample
        error = decoded - batch
        pixels = error.abs().mean() + error.square().mean()
        edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        divergence = 0.5 * (posterior.mean**2 + posterior.var - 1 - posterior.logvar).mean()
        loss = pixels + self.edges * edges + self.divergence * divergence
        parts = {"loss": loss, "pixels": pixels, "edges": edges, "divergence": divergence}
        return Loss(total=loss, parts={name: part.detach() for name, part in parts.items()})
