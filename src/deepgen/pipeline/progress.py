"""What a step callback sees of its call, and may change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from deepgen.config.checks import check_within
from deepgen.config.model import MAX_GUIDANCE
from deepgen.flow.guidance import is_guided
from deepgen.flow.ode import Step
from deepgen.images.tensors import to_image
from deepgen.model import DeepGen
from deepgen.pipeline.denoising import Denoising, prepare
from deepgen.pipeline.embeddings import to_conditions, to_tensors
from deepgen.pipeline.output import stack
from deepgen.pipeline.request import Sampling, parse_count

EMBEDDINGS = ("prompt_embeds", "pooled_prompt_embeds")
CALLBACK_TENSORS = ("latents", "clean_latents", "preview", *EMBEDDINGS)

StepCallback = Callable[[Any, int, float, dict[str, Any]], dict[str, Any] | None]
"""Called with the pipeline, the index of the step, its timestep and what was asked for."""


def check_callback_tensors(names: Sequence[str]) -> None:
    """Refuse what a callback cannot have.

    Raises:
        ValueError: Which, and what it can have.
    """
    unknown = set(names) - set(CALLBACK_TENSORS)
    if unknown:
        raise ValueError(f"callbacks can have {CALLBACK_TENSORS}, not {sorted(unknown)}")


class ProgressMethods:
    """Guidance, number of steps, latents and embeddings of the call in progress."""

    model: DeepGen

    _running: Denoising | None = None
    _last_guidance: float
    _steps: int = 0

    @property
    def guidance_scale(self) -> float:
        """Of the call in progress, else of the last one; a step callback may set it.

        At 1 or below, the remaining steps follow the prompt alone.
        """
        return self._running.guidance_scale if self._running else self._last_guidance

    @guidance_scale.setter
    def guidance_scale(self, value: float) -> None:
        if self._running is None:
            raise ValueError("guidance_scale is an argument of a call, and set in its callback")
        check_within("guidance_scale", value, 0, MAX_GUIDANCE)
        if is_guided(value) and not self._running.is_guided:
            raise ValueError("this call began without guidance and has no negative prompt to use")
        self._running.guidance_scale = self._last_guidance = float(value)

    _guidance_scale = guidance_scale

    @property
    def do_classifier_free_guidance(self) -> bool:
        """Whether the negative prompt counts now."""
        return is_guided(self.guidance_scale)

    @property
    def num_timesteps(self) -> int:
        """Steps of the call in progress, else of the last one; a step callback may set fewer."""
        return self._steps

    @num_timesteps.setter
    def num_timesteps(self, value: int) -> None:
        if self._running is None:
            raise ValueError("num_timesteps is set in the callback of a call")
        if not self._running.step <= parse_count("num_timesteps", value) <= self._steps:
            raise ValueError(
                f"num_timesteps may fall to the step just made, {self._running.step}, and not rise "
                f"above {self._steps}; got {value}"
            )
        self._steps = value

    _num_timesteps = num_timesteps

    def _begin_call(self, images: Denoising, sampling: Sampling) -> None:
        """What callbacks see and may change is that of these images."""
        self._running = images
        self._last_guidance = sampling.guidance_scale
        self._steps = sampling.steps

    def _call_back(self, callback: StepCallback, inputs: Sequence[str], step: Step) -> bool:
        """Run the callback on what it wants to see; return whether it replaced the latents."""
        pipe: Any = self
        tensors: dict[str, Any] = {}
        if "latents" in inputs:
            tensors["latents"] = stack(step.latents)
        if "clean_latents" in inputs:
            tensors["clean_latents"] = stack(step.clean_latents)
        if "preview" in inputs:
            with pipe._on_device(self.model.vae):
                tensors["preview"] = [
                    to_image(each) for each in self.model.vae.decode(step.clean_latents)
                ]
        running = self._running
        assert running is not None
        embeds = {}
        if set(inputs) & set(EMBEDDINGS):
            embeds = dict(zip(EMBEDDINGS, to_tensors(running.conditions), strict=True))
            tensors |= {name: value for name, value in embeds.items() if name in inputs}
        changed = callback(self, step.index, 1000 * step.sigma, tensors) or {}
        if any(name in changed and changed[name] is not embeds.get(name) for name in EMBEDDINGS):
            own = embeds or dict(zip(EMBEDDINGS, to_tensors(running.conditions), strict=True))
            self._replace_embeds(running, *({**own, **changed}[name] for name in EMBEDDINGS))
        if "latents" not in changed:
            return False
        latents = list(changed["latents"])
        expected, found = [e.shape for e in step.latents], [e.shape for e in latents]
        if found != expected:
            raise ValueError(f"the callback's latents must be of shapes {expected}, got {found}")
        step.latents[:] = latents
        return True

    def _replace_embeds(self, images: Denoising, embeds: Any, pooled: Any) -> None:
        """Give the remaining steps other conditions: as many, or those of the prompts alone.

        Raises:
            ValueError: They are no embeddings of these images, or those of the negative prompts
                are missing though there is guidance.
        """
        count = len(images.latents)
        if len(embeds) == count < len(pooled):
            # Scripts for pipelines without pooled vectors leave those as they are.
            pooled = pooled[-count:]
        conditions = to_conditions("prompt_embeds", embeds, pooled, self.model)
        if len(conditions) == count and images.is_guided:
            if is_guided(images.guidance_scale):
                raise ValueError(
                    f"the callback returned embeddings of the {count} prompts alone, but guidance "
                    "needs those of the negative prompts before them; set pipe._guidance_scale = 0"
                )
            images.is_guided = False
        elif len(conditions) != len(images.conditions):
            raise ValueError(
                f"the callback must return {len(images.conditions)} rows of prompt_embeds, got "
                f"{len(conditions)}"
            )
        prepare(self.model.dit, images, conditions)
