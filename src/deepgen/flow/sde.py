"""Stochastic samplers of the flow: the steps of CPS, Flow-GRPO and DanceGRPO, and their likelihood.

Coefficients-preserving sampling (CPS): Wang and Yu, arXiv 2509.05952. Flow-SDE: Flow-GRPO, Liu et
al., arXiv 2505.05470, equation 9. Dance-SDE: DanceGRPO, Xue et al., arXiv 2505.07818, section 3.2.

Every sampler draws ``x' = mean(x, v) + std * noise``, and its mean is linear in the latents x and
the velocity v, so a step is three numbers (:class:`Transition`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from deepgen.config.rl import Sampler, Scaling
from deepgen.types import Latents

Velocity = Callable[[Sequence[Latents], int], Sequence[Latents]]
"""(noisy latents, index of the step) -> predictions of ``noise - latents``."""

Noise = Callable[[int], Sequence[Latents]]
"""Index of a step -> standard normal noise of every image."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Transition:
    """One step of a sampler, ``x' = latents * x + velocity * v + std * noise``."""

    index: int
    """Of the step; 0 is the first. Steps are addressed by it, never by their noise level."""
    sigma: float
    following: float
    """Noise level after the step."""
    latents: float
    """Factor of the latents in the mean."""
    velocity: float
    """Factor of the velocity in the mean: how sensitive the mean is to it."""
    std: float
    """Standard deviation of the noise that is added; 0 makes the step one of the ODE's."""

    def mean(self, latents: Tensor, velocity: Tensor) -> Tensor:
        """Mean of the latents after the step, in float32 (or in float64, where both are)."""
        return self.latents * _wide(latents) + self.velocity * _wide(velocity)


@dataclass(frozen=True, kw_only=True, slots=True)
class SampledStep:
    """The result of a step."""

    transition: Transition
    before: list[Latents]
    after: list[Latents]
    velocities: list[Latents]


def transition(
    sigmas: Sequence[float],
    index: int,
    *,
    sampler: Sampler = "cps",
    eta: float = 0.0,
    epsilon: float = 0.0,
) -> Transition:
    """The step of a sampler between two noise levels; with ``eta`` 0 it is Euler's, to the bit.

    CPS, with data estimate x0 = x - sigma v and noise estimate x1 = x + (1 - sigma) v::

        std  = sigma' sin(eta pi / 2)
        mean = (1 - sigma') x0 + sigma' cos(eta pi / 2) x1

    so data has the weight 1 - sigma' and all noise together the variance sigma'^2. In the other two
    the noise is more than that; with dt = sigma' - sigma and a deviation d per unit of time, eta
    sqrt(sigma / (1 - sigma)) for Flow-SDE and eta for Dance-SDE::

        std  = d sqrt(-dt)
        mean = x + (v + d^2 / (2 sigma) (x + (1 - sigma) v)) dt

    Args:
        sigmas: Falling noise levels that end with 0, as plain numbers.
        index: Of the step.
        sampler: Which of the three.
        eta: How much noise.
        epsilon: Added to sigma^2 where Dance-SDE divides by it, 1e-8 in the published code.
    """
    sigma, following = sigmas[index], sigmas[index + 1]
    change = following - sigma
    if sampler == "cps":
        std = following * math.sin(eta * math.pi / 2)
        # sigma' (1 - cos), written so that it vanishes with eta.
        lost = following * 2 * math.sin(eta * math.pi / 4) ** 2
        return Transition(
            index=index,
            sigma=sigma,
            following=following,
            latents=1 - lost,
            velocity=change - (1 - sigma) * lost,
            std=std,
        )
    deviation = eta
    if sampler == "flow_sde":
        # At sigma 1 it would be infinite; there the next level stands in.
        deviation *= math.sqrt(sigma / (1 - (sigmas[1] if sigma == 1 else sigma)))
    score = deviation**2 / 2 * (1 / sigma if epsilon == 0 else sigma / (sigma**2 + epsilon))
    return Transition(
        index=index,
        sigma=sigma,
        following=following,
        latents=1 + score * change,
        velocity=change + score * (1 - sigma) * change,
        std=deviation * math.sqrt(-change),
    )


def trajectory(
    sigmas: Sequence[float], stochastic: Sequence[int], *, sampler: Sampler, eta: float
) -> list[Transition]:
    """All steps of a rollout: stochastic where asked, the ODE's elsewhere.

    The last step is never stochastic: it would leave noise in the image, and has no likelihood.

    Raises:
        ValueError: An index is not that of a step that can be stochastic.
    """
    steps = len(sigmas) - 1
    if not all(0 <= index < steps - 1 for index in stochastic):
        raise ValueError(
            f"of {steps} steps those from 0 to {steps - 2} can be stochastic, got "
            f"{sorted(stochastic)}"
        )
    chosen = set(stochastic)
    return [
        transition(sigmas, index, sampler=sampler, eta=eta if index in chosen else 0.0)
        for index in range(steps)
    ]


def sample(
    velocity: Velocity, start: Sequence[Latents], steps: Sequence[Transition], noise: Noise
) -> Iterator[SampledStep]:
    """Follow a trajectory from its first step on, one step per item.

    Latents, means and noise are float32, or float64 where the latents are.

    Args:
        velocity: Called once per step with all images.
        start: Latents before the first of the steps.
        steps: Consecutive ones; they need not begin with step 0.
        noise: Called for stochastic steps only.
    """
    latents = [_wide(each) for each in start]
    for step in steps:
        velocities = [_wide(each) for each in velocity(latents, step.index)]
        after = [step.mean(x, v) for x, v in zip(latents, velocities, strict=True)]
        if step.std:
            after = [x + step.std * z for x, z in zip(after, noise(step.index), strict=True)]
        yield SampledStep(transition=step, before=latents, after=after, velocities=velocities)
        latents = after


def scaling_factors(transitions: Sequence[Transition], scaling: Scaling) -> dict[int, float]:
    """Factor of the squared distance in the log-probability, by the index of the step.

    ``cps`` is 1 (Flow-CPS and DeepGen), ``gauss`` is ``1 / (2 std^2)``, the Gaussian's own. The
    gradient of ``cps`` on the velocity grows with ``std |d mean / d v|`` and so nearly ignores the
    first steps, that of ``gauss`` explodes at the last; ``equal`` makes it the same at all steps.

    Args:
        transitions: Those that are learned from, all stochastic.
        scaling: Which.
    """
    if scaling == "cps":
        return {each.index: 1.0 for each in transitions}
    if scaling == "gauss":
        return {each.index: 1 / (2 * each.std**2) for each in transitions}
    slopes = {each.index: 2 * each.std * abs(each.velocity) for each in transitions}
    average = sum(slopes.values()) / len(slopes)
    return {index: average / slope for index, slope in slopes.items()}


def log_probability(following: Latents, mean: Latents, factor: float) -> Float[Tensor, ""]:
    """Scaled log-probability of a transition, ``-factor * mean((x' - mean)^2)``, in float32.

    The mean over all values of the latents, not their sum, and without constants: only ratios are
    used, and the standard deviation does not depend on the model (Flow-GRPO, section 4.1).

    Args:
        following: Latents after the step, as they were sampled.
        mean: Of the step, see :meth:`Transition.mean`.
        factor: See :func:`scaling_factors`.
    """
    return -factor * (_wide(following) - _wide(mean)).square().mean()


def log_probabilities(
    transitions: Sequence[Transition],
    before: Sequence[Latents],
    velocities: Sequence[Latents],
    following: Sequence[Latents],
    factors: Sequence[float],
) -> Float[Tensor, " rows"]:
    """:func:`log_probability` of each row's transition.

    Args:
        transitions: One a row.
        before: Latents before each step.
        velocities: Predicted there.
        following: Latents after each step, as they were sampled.
        factors: See :func:`scaling_factors`.
    """
    rows = zip(transitions, before, velocities, following, factors, strict=True)
    return torch.stack(
        [log_probability(after, step.mean(x, v), factor) for step, x, v, after, factor in rows]
    )


def _wide(values: Tensor) -> Tensor:
    """At least float32."""
    return values if values.element_size() == 8 else values.float()
