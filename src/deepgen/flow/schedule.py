"""Noise levels of sampling and training, by the settings of ``scheduler_config.json``.

The rule is that of diffusers' ``FlowMatchEulerDiscreteScheduler``, with which the model was trained
and evaluated. Its end points come from the table of training noise levels, which is shifted
already, and the shift is then applied once more; both are kept, since the weights were trained so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from deepgen.config.model import ScheduleConfig


def shift_sigmas(sigmas: np.ndarray, shift: float) -> np.ndarray:
    """Shift noise levels towards 1: ``s u / (1 + (s - 1) u)`` (SD3, equation 23)."""
    return shift * sigmas / (1 + (shift - 1) * sigmas)


def shift_by_length(sigmas: np.ndarray, tokens: int, config: ScheduleConfig) -> np.ndarray:
    """Shift noise levels by an amount that grows with the image.

    ``e^mu / (e^mu + 1/u - 1)`` with ``mu`` linear in the number of image tokens, through
    (``base_image_seq_len``, ``base_shift``) and (``max_image_seq_len``, ``max_shift``).
    """
    slope = (config.max_shift - config.base_shift) / (
        config.max_image_seq_len - config.base_image_seq_len
    )
    mu = config.base_shift + slope * (tokens - config.base_image_seq_len)
    return math.exp(mu) / (math.exp(mu) + (1 / sigmas - 1))


def training_sigmas(config: ScheduleConfig) -> Float[Tensor, " timesteps"]:
    """Noise levels of training, descending from 1, in float32 on the CPU."""
    steps = config.num_train_timesteps
    sigmas = np.linspace(1, steps, steps, dtype=np.float32)[::-1] / np.float32(steps)
    if not config.use_dynamic_shifting:
        sigmas = shift_sigmas(sigmas, config.shift)
    return torch.from_numpy(sigmas.astype(np.float32))


def sampling_sigmas(
    steps: int,
    config: ScheduleConfig,
    *,
    tokens: int,
    unshifted: Sequence[float] | None = None,
) -> Float[Tensor, " steps_and_end"]:
    """Noise levels of a sampling run: ``steps`` descending values, then 0.

    Args:
        steps: Number of Euler steps, at least 1.
        config: The model's schedule.
        tokens: Image tokens of the target, ``(height / 16) * (width / 16)`` in pixels; only a
            dynamic schedule depends on them.
        unshifted: Noise levels before the shift, as many as steps, in place of evenly spaced ones.

    Returns:
        ``steps + 1`` values in float32 on the CPU.

    Raises:
        ValueError: There is less than one step.
    """
    if steps < 1:
        raise ValueError(f"the number of steps must be at least 1, got {steps}")
    scale = config.num_train_timesteps
    last = float(training_sigmas(config)[-1]) * scale
    if unshifted is None:
        levels = np.linspace(scale, last, steps) / scale
    else:
        levels = np.array(unshifted, dtype=np.float32)
    if config.use_dynamic_shifting:
        levels = shift_by_length(levels, tokens, config)
    else:
        levels = shift_sigmas(levels, config.shift)
    return torch.from_numpy(np.append(levels, 0.0).astype(np.float32))
