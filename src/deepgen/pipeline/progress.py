"""What a step callback sees of its call, and may change."""

from __future__ import annotations

from deepgen.config.checks import check_within
from deepgen.config.model import MAX_GUIDANCE
from deepgen.flow.guidance import is_guided
from deepgen.pipeline.denoising import Denoising
from deepgen.pipeline.request import Sampling, parse_count


class ProgressMethods:
    """Guidance and number of steps of the call in progress."""

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
