import math
from collections.abc import Callable
from itertools import pairwise

import torch

from deepgen.config.model import ScheduleConfig
from deepgen.flow.guidance import guide, is_guided, rescale
from deepgen.flow.ode import euler_step, extrapolated_velocity
from deepgen.flow.path import clean_estimate, interpolate
from deepgen.flow.schedule import sampling_sigmas
from deepgen.types import Latents

SIGMAS = sampling_sigmas(50, ScheduleConfig(), tokens=16)


def integrate(velocity: Callable[[Latents], Latents], noise: Latents) -> tuple[Latents, Latents]:
    """The latents after all steps, and the clean ones that the last velocity predicts."""
    latents = clean = noise
    for sigma, following in pairwise(SIGMAS.tolist()):
        latents, clean = euler_step(latents, velocity(latents), sigma, following)
    return latents, clean


def test_a_constant_velocity_telescopes_to_noise_minus_velocity() -> None:
    noise, velocity = torch.randn(16, 4, 6), torch.randn(16, 4, 6)
    latents, _ = integrate(lambda _: velocity, noise)
    torch.testing.assert_close(latents, noise - velocity, rtol=0, atol=2e-6)


def test_one_euler_step_along_the_true_velocity_recovers_the_latents() -> None:
    latents, noise = torch.randn(3, 16, 4, 4), torch.randn(3, 16, 4, 4)
    sigmas = torch.tensor([0.2, 0.7, 1.0])
    noisy, velocity = interpolate(latents, noise, sigmas)
    for index, sigma in enumerate(sigmas.tolist()):
        estimate = clean_estimate(noisy[index], velocity[index], sigma)
        torch.testing.assert_close(estimate, latents[index], rtol=0, atol=1e-5)


def test_a_step_is_in_float32_and_leaves_its_start_alone() -> None:
    start = torch.randn(16, 4, 4)
    before = start.clone()
    latents, clean = euler_step(start, torch.randn(16, 4, 4).bfloat16(), 0.5, 0.25)
    assert latents.dtype == clean.dtype == torch.float32
    assert torch.equal(start, before)


def test_the_last_steps_clean_estimate_is_the_result() -> None:
    latents, clean = integrate(torch.tanh, torch.randn(1, 4, 4))
    torch.testing.assert_close(clean, latents)


def test_guidance_moves_away_from_the_negative_prompt() -> None:
    negative, positive = torch.randn(4), torch.randn(4)
    torch.testing.assert_close(guide(negative, positive, 1.0), positive)
    torch.testing.assert_close(guide(positive, positive, 7.5), positive)
    torch.testing.assert_close(guide(negative, positive, 3.0) - positive, 2 * (positive - negative))
    assert not is_guided(1.0)
    assert is_guided(1.01)


def error_of(steps: int, *, second_order: bool) -> float:
    """Of the solution of dx / d sigma = x from 1 to 0, on levels that are not evenly spaced."""
    levels = [1 - (index / steps) ** 1.5 for index in range(steps + 1)]
    latents, previous = torch.ones(16, 2, 2), None
    for index, (sigma, following) in enumerate(pairwise(levels)):
        slope = velocity = latents
        if second_order and previous is not None:
            step = following - sigma
            slope = extrapolated_velocity(velocity, previous, sigma - levels[index - 1], step)
        latents, _ = euler_step(latents, slope, sigma, following)
        previous = velocity
    return float((latents - math.exp(-1)).abs().max())


def test_half_the_step_halves_the_error_of_euler_and_quarters_that_of_second_order() -> None:
    euler = error_of(20, second_order=False) / error_of(40, second_order=False)
    second = error_of(20, second_order=True) / error_of(40, second_order=True)
    assert 1.8 < euler < 2.2
    assert 3.6 < second < 4.6


def test_rescaling_gives_the_guided_velocity_the_spread_of_the_prompted_one() -> None:
    guided, prompted = 3 * torch.randn(16, 4, 4), torch.randn(16, 4, 4)
    torch.testing.assert_close(rescale(guided, prompted, 1.0).std(), prompted.std())
    half = (guided.std() + prompted.std()) / 2
    torch.testing.assert_close(rescale(guided, prompted, 0.5).std(), half)
