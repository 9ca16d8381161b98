"""From a sentence, and images to edit, to images: text-to-image and editing are one path."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image
from torch import Generator, Tensor

from deepgen.config.model import GenerationDefaults, Padding
from deepgen.config.solver import WHOLE_INTERVAL, SolverOptions
from deepgen.flow.guidance import is_guided
from deepgen.model import DeepGen
from deepgen.pipeline.adapters import AdapterMethods
from deepgen.pipeline.components import PART_CLASSES, PartMethods, model_of, parts_of
from deepgen.pipeline.denoising import advance, begin, schedules
from deepgen.pipeline.embeddings import Embeddings, EncodingMethods, repeated, stand_ins
from deepgen.pipeline.keywords import REFUSED_IN_CALLS, check_keywords
from deepgen.pipeline.output import DeepGenPipelineOutput, check_output_type, converted, stack
from deepgen.pipeline.parts import (
    check_finite,
    encode_prompts,
    encode_references,
    initial_noise,
    record,
    reference_pixels,
    state_source,
)
from deepgen.pipeline.placement import Placement, PlacementMethods
from deepgen.pipeline.pretrained import LoadingMethods
from deepgen.pipeline.progress import (
    CALLBACK_TENSORS,
    ProgressMethods,
    StepCallback,
    check_callback_tensors,
)
from deepgen.pipeline.registration import register
from deepgen.pipeline.request import (
    Generators,
    Prompts,
    References,
    Request,
    Sampling,
    beyond_training,
    noise_generators,
    parse_count,
    parse_sampling,
)
from deepgen.pipeline.turns import Call, Calls, turn
from deepgen.types import Condition, Latents


class DeepGenPipeline(
    AdapterMethods,
    EncodingMethods,
    LoadingMethods,
    PartMethods,
    PlacementMethods,
    ProgressMethods,
    DiffusionPipeline,  # type: ignore[misc]
):
    """Generates images from prompts and edits images by instructions.

    A diffusers pipeline (``to``, ``save_pretrained``, progress bar, callbacks, offloading) whose
    parts are ``transformer``, ``vae``, ``vlm``, ``connector``, ``scheduler`` and ``tokenizer``;
    ``model`` is all of them. Loading reads safetensors and JSON only; no code and no pickle from a
    model is ever run.

    Threads may share a pipeline, and pipelines a model: calls take turns, as do changes of weights
    and places. So a callback must not wait for a call of another thread.
    """

    _callback_tensor_inputs = CALLBACK_TENSORS

    def __init__(
        self,
        model: DeepGen | None = None,
        *,
        transformer: Any = None,
        vae: Any = None,
        vlm: Any = None,
        connector: Any = None,
        scheduler: Any = None,
        tokenizer: Any = None,
    ) -> None:
        super().__init__()
        given = {
            "transformer": transformer,
            "vae": vae,
            "vlm": vlm,
            "connector": connector,
            "scheduler": scheduler,
            "tokenizer": tokenizer,
        }
        if model is not None and any(part is not None for part in given.values()):
            raise ValueError("give either a model or its parts, not both")
        self.model = model_of(given) if model is None else model
        parts = parts_of(self.model)
        if scheduler is not None:
            parts["scheduler"] = scheduler
        self.register_modules(**parts)
        self._last_guidance = self.model.defaults.guidance_scale
        self._placement: Placement | None = None
        self._calls = Calls()
        self._source: str | None = None
        """What the model was loaded from; images are recorded with it."""

    def interrupt(self) -> None:
        """End a call after its current step; it returns the images so far.

        In ``callback_on_step_end`` it is the call of that callback, whatever other threads do;
        elsewhere the only call in progress, if there is one.

        Raises:
            ValueError: Several threads have calls in progress, and this one has none.
        """
        self._calls.interrupt()

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_interrupt":
            # How callbacks written for other pipelines of diffusers end their call.
            if value:
                self.interrupt()
            return
        if name in PART_CLASSES and name in self.__dict__ and value is not self.__dict__[name]:
            self.model = self._replaced(name, value)
        super().__setattr__(name, value)

    # Not inference mode: its tensors cannot be used in training, and weights may be moved here.
    @torch.no_grad()
    def __call__(
        self,
        prompt: Prompts | None = None,
        image: References = None,
        *,
        negative_prompt: Prompts | None = None,
        prompt_embeds: Embeddings | None = None,
        negative_prompt_embeds: Embeddings | None = None,
        pooled_prompt_embeds: Tensor | None = None,
        negative_pooled_prompt_embeds: Tensor | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        sigmas: Sequence[float] | np.ndarray | None = None,
        guidance_scale: float | None = None,
        solver: str = "euler",
        guidance_interval: tuple[float, float] = WHOLE_INTERVAL,
        guidance_rescale: float = 0.0,
        cache: str = "none",
        cache_threshold: float = 0.1,
        cache_interval: int = 2,
        num_images_per_prompt: int = 1,
        seed: int | None = None,
        generator: Generators = None,
        latents: Tensor | None = None,
        output_type: str = "pil",
        padding: Padding | None = None,
        callback_on_step_end: StepCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        return_dict: bool = True,
        **others: Any,
    ) -> DeepGenPipelineOutput | Any:
        """Make images.

        Args:
            prompt: What to generate, or what to change; one text or a list of them.
            image: None for text-to-image; an image or a list of images to edit. For a list of
                prompts, a list of lists.
            negative_prompt: What to steer away from; None is the model's default for the task.
            prompt_embeds: In place of ``prompt``: what :meth:`encode_prompt` returned; so too the
                three others, the negative ones only with guidance.
            negative_prompt_embeds: In place of ``negative_prompt``.
            pooled_prompt_embeds: That belong to ``prompt_embeds``.
            negative_pooled_prompt_embeds: That belong to ``negative_prompt_embeds``.
            height: Of the result in pixels, a multiple of 32; None is the model's default, or that
                of the first image to edit.
            width: As ``height``.
            num_inference_steps: Steps of the solver; None is the model's default.
            sigmas: Noise levels of the steps, falling from 1, before the model's shift (as in
                diffusers); None spaces them evenly.
            guidance_scale: Weight of the prompt against the negative one; None is the model's
                default. At 1 or below there is no guidance, and the negative prompt has no effect.
            solver: ``euler``, or ``ab2``: of second order, at the same cost a step.
            guidance_interval: Lowest and highest noise level (sigma) of steps with guidance; the
                others cost half.
            guidance_rescale: From 0, none, to 1; less contrast at high guidance scales.
            cache: ``none``; ``first-block`` or ``taylor``: faster, and no longer exact.
            cache_threshold: Of ``first-block``, from 0, exact, to 1.
            cache_interval: Of ``taylor``: the DiT runs every so many steps.
            num_images_per_prompt: Images per prompt, adjacent in the result.
            seed: Image *i* of the call uses ``seed + i``.
            generator: Instead of a seed: one generator, or one per image. Noise is drawn on
                the generator's device; CPU generators give the same image on every device.
            latents: Initial noise ``[batch, 16, height / 8, width / 8]``, used as given.
            output_type: ``pil``; ``np`` ([0, 1], channels last); ``pt`` ([0, 1], channels first);
                ``latent`` (scaled latents, undecoded).
            padding: How the two prompts of an image pad each other; None is the model's default.
            callback_on_step_end: Called as ``callback(pipe, step, timestep, tensors)`` after every
                step; raising cancels the call. A returned ``{"latents": ...}`` replaces them, and
                ``prompt_embeds`` and ``pooled_prompt_embeds`` those of the remaining steps. Where
                the schedule depends on the size, images are sampled one size after another.
            callback_on_step_end_tensor_inputs: Which of ``latents``, ``clean_latents`` (the current
                estimate of the result), ``preview`` (that decoded, as PIL images),
                ``prompt_embeds`` and ``pooled_prompt_embeds`` (with guidance, rows of the negative
                prompts, then those of the prompts) the callback gets.
            return_dict: False returns the tuple ``(images,)``, for older diffusers scripts.
            others: What other pipelines of diffusers know; None, else refused with the reason.

        Raises:
            ValueError: An argument cannot be used; nothing was computed.
            FloatingPointError: The result is NaN or infinite somewhere.
        """
        model = self.model
        check_keywords("this pipeline", others, REFUSED_IN_CALLS)
        check_output_type(output_type)
        check_callback_tensors(callback_on_step_end_tensor_inputs)
        per_prompt = parse_count("num_images_per_prompt", num_images_per_prompt)
        sampling = parse_sampling(
            num_inference_steps, guidance_scale, padding, model.defaults, sigmas
        )
        options = SolverOptions(
            solver=solver,
            guidance_interval=guidance_interval,
            guidance_rescale=guidance_rescale,
            cache=cache,
            cache_threshold=cache_threshold,
            cache_interval=cache_interval,
        )
        options, unused = options.at(sampling.guidance_scale)
        embedded = self._embedded(
            prompt,
            negative_prompt,
            (prompt_embeds, pooled_prompt_embeds),
            (negative_prompt_embeds, negative_pooled_prompt_embeds),
            is_guided(sampling.guidance_scale),
        )
        requests = self._requests(
            prompt if embedded is None else stand_ins(embedded[0]),
            image,
            negative_prompt=negative_prompt,
            height=height,
            width=width,
            latents=latents,
        )
        if negative_prompt and any(each.negative_prompt for each in requests):
            unused.insert(0, "negative_prompt")
        _warn(requests, sampling, model.defaults, unused)
        every = repeated(requests, per_prompt)
        if latents is not None and latents.shape[0] != len(every):
            raise ValueError(f"{len(every)} images need as many latents, got {latents.shape[0]}")
        with self._calls.enter() as call, turn(model):
            generators, seeds = noise_generators(len(every), seed, generator, drawn=latents is None)
            inputs = self._encode(requests, embedded, sampling, per_prompt)
            final = self._denoise(
                call,
                self._initial_noise(every, generators, latents),
                inputs,
                sampling,
                options,
                callback_on_step_end,
                callback_on_step_end_tensor_inputs,
            )
            images = self._finish(final, every, output_type)
        if output_type == "pil":
            for made, request, own in zip(images, every, seeds, strict=True):
                if embedded is not None:
                    # Without a prompt there is no record from which to make it again.
                    state_source(made, request)
                    continue
                record(
                    made,
                    request,
                    seed=own,
                    sampling=sampling,
                    model=self._source,
                    further=options.changed,
                )
        output = DeepGenPipelineOutput(images=images, seeds=seeds)
        return output if return_dict else (images,)

    def _encode(
        self,
        requests: Sequence[Request],
        embedded: tuple[list[Condition], list[Condition]] | None,
        sampling: Sampling,
        per_prompt: int,
    ) -> _Inputs:
        """What the DiT is conditioned on: of given embeddings only references are encoded."""
        model = self.model
        pixels = [reference_pixels(request, self.device) for request in requests]
        if embedded is not None:
            positive, negative = embedded
        else:
            with self._on_device(model.conditioner):
                positive, negative = encode_prompts(model.conditioner, requests, pixels, sampling)
        with self._on_device(model.vae) if any(pixels) else nullcontext():
            references = encode_references(model.vae, pixels)
        return _Inputs(
            positive=repeated(positive, per_prompt),
            negative=repeated(negative, per_prompt),
            references=repeated(references, per_prompt),
        )

    def _initial_noise(
        self, requests: Sequence[Request], generators: Sequence[Generator], given: Tensor | None
    ) -> list[Latents]:
        """The given latents, or noise of each image's own generator."""
        if given is not None:
            return list(given.to(self.device, torch.float32))
        return [
            initial_noise(self.model, request, generator).to(self.device)
            for request, generator in zip(requests, generators, strict=True)
        ]

    def _denoise(
        self,
        call: Call,
        noise: list[Latents],
        inputs: _Inputs,
        sampling: Sampling,
        options: SolverOptions,
        callback: StepCallback | None,
        callback_inputs: Sequence[str],
    ) -> list[Latents]:
        """Integrate from noise to clean latents, images of equal schedules together."""
        model = self.model
        result: dict[int, Latents] = {}
        groups = schedules(
            noise, sampling.steps, model.schedule, model.dit.config.patch_size, sampling.sigmas
        )
        for members, sigmas in groups:
            with self._on_device(model.dit), self.progress_bar(total=sampling.steps) as bar:
                images = begin(
                    model.dit,
                    [noise[index] for index in members],
                    *inputs.of(members),
                    sigmas,
                    sampling.guidance_scale,
                    options,
                )
                replaced = False
                self._begin_call(images, sampling)
                try:
                    while images.step < self._steps:
                        (step,) = advance(model.dit, [images])
                        if callback is not None:
                            replaced = self._call_back(callback, callback_inputs, step)
                        bar.update()
                        if call.is_interrupted:
                            break
                finally:
                    self._running = None
            is_unfinished = not images.is_done and not replaced
            finished = step.clean_latents if is_unfinished else step.latents
            result.update(zip(members, finished, strict=True))
        return [result[index] for index in range(len(noise))]

    def _finish(
        self, latents: list[Latents], images: Sequence[Request], output_type: str
    ) -> list[Image.Image] | np.ndarray | Tensor | list[Any]:
        """Decode and convert to ``output_type``."""
        if output_type == "latent":
            return stack(latents)
        with self._on_device(self.model.vae):
            decoded = self.model.vae.decode(latents)
        for each in decoded:
            check_finite(each, self.dtype)
        return converted(decoded, images, output_type)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Inputs:
    """What the DiT gets besides noise, one entry per image."""

    positive: list[Condition]
    negative: list[Condition]
    """Empty without guidance."""
    references: list[list[Latents]]

    def of(
        self, members: Sequence[int]
    ) -> tuple[list[Condition], list[Condition], list[list[Latents]]]:
        """Those of some images, as :func:`begin` takes them."""
        return (
            [self.positive[index] for index in members],
            [self.negative[index] for index in members] if self.negative else [],
            [self.references[index] for index in members],
        )


def _warn(
    requests: Sequence[Request],
    sampling: Sampling,
    defaults: GenerationDefaults,
    of_guidance: Sequence[str],
) -> None:
    """Warn of arguments without effect where there is no guidance, and of what the model was not
    trained for."""
    # At the user's call: this function, the method, and the decorator of torch are between.
    level = 4
    for name in [] if is_guided(sampling.guidance_scale) else of_guidance:
        warnings.warn(
            f"the {name.replace('_', ' ')} has no effect at a guidance scale of "
            f"{sampling.guidance_scale:g}; it has above 1",
            stacklevel=level,
        )
    for note in beyond_training(requests, defaults):
        warnings.warn(note, stacklevel=level)


register(DeepGenPipeline)
