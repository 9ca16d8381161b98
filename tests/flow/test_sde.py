"""Stochastic samplers: recorded steps, a float64 brute force, and what holds exactly."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from deepgen.config.model import ScheduleConfig
from deepgen.config.rl import Sampler
from deepgen.flow.ode import euler_step
from deepgen.flow.schedule import sampling_sigmas
from deepgen.flow.sde import (
    Transition,
    log_probability,
    sample,
    scaling_factors,
    trajectory,
    transition,
)
from tests.shared import error, golden

SAMPLERS: tuple[Sampler, ...] = ("cps", "flow_sde", "dance_sde")
RECORDED: dict[str, Sampler] = {
    "cps_sde": "cps",
    "flowgrpo_sde": "flow_sde",
    "dance_sde": "dance_sde",
}
NEAR = 2e-5


@cache
def recorded() -> dict[str, Any]:
    return dict(np.load(golden("rl/sde_steps.npz")))


def tensor(name: str) -> Tensor:
    return torch.from_numpy(recorded()[name])


def recorded_step(sampler: str, eta: float, index: int) -> Transition:
    levels = recorded()["sigmas"].tolist()
    return transition(levels, index, sampler=RECORDED[sampler], eta=eta, epsilon=1e-8)


def log_probs(step: Transition, after: Tensor, mean: Tensor, *, is_gauss: bool) -> Tensor:
    """As recorded: of the Gaussian with its constants, and with its epsilons."""
    factor = 1 / (2 * (step.std**2 + 1e-8)) if is_gauss else 1.0
    constant = math.log(step.std + 1e-8) + math.log(2 * math.pi) / 2 if is_gauss else 0.0
    rows = zip(after, mean, strict=True)
    return torch.stack([log_probability(x, mu, factor) for x, mu in rows]) - constant


def test_steps_are_the_recorded_ones() -> None:
    cases = json.loads(golden("rl/sde_cases.json").read_text())
    for case in cases:
        key, name = case["key"], case["sampler"]
        step = recorded_step(name, case["eta"], case["step"])
        assert step.std == pytest.approx(float(recorded()[f"{key}.noise_scale"]), rel=NEAR), key
        mean = step.mean(tensor("sample"), tensor("velocity"))
        after = mean + step.std * tensor("noise")
        assert mean.dtype == after.dtype == torch.float32
        if f"{key}.mean" in recorded():
            assert error(mean, tensor(f"{key}.mean")) <= NEAR, key
            assert error(after, tensor(f"{key}.next_sample")) <= NEAR, key
        else:
            assert error(after[0], tensor(f"{key}.next_sample_b0")) <= NEAR, key
        found = log_probs(step, after, mean, is_gauss=name != "cps_sde")
        if step.std:
            assert error(found, tensor(f"{key}.log_prob")) <= NEAR, key


@pytest.mark.parametrize("name", RECORDED)
def test_log_probabilities_of_a_given_next_state_are_the_recorded_ones(name: str) -> None:
    cases = json.loads(golden("rl/sde_cases.json").read_text())
    eta = min(case["eta"] for case in cases)
    timesteps = recorded()["timesteps"].tolist()
    rows = [timesteps.index(each) for each in recorded()["mixed.timesteps"].tolist()]
    steps = [recorded_step(name, eta, index) for index in rows]
    for which, velocity in (("old", "velocity"), ("new", "mixed.velocity_new")):
        found = []
        for step, x, v, after in zip(
            steps, tensor("sample"), tensor(velocity), tensor("mixed.next_sample"), strict=True
        ):
            mean = step.mean(x, v)
            found.append(log_probs(step, after[None], mean[None], is_gauss=name != "cps_sde"))
            if len(found) == 1:
                assert error(mean, tensor(f"mixed.{name}.{which}.mean_b0")) <= NEAR
        assert error(torch.cat(found), tensor(f"mixed.{name}.{which}.log_prob")) <= NEAR


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_steps_equal_a_brute_force_in_float64(sampler: Sampler) -> None:
    levels = sampling_sigmas(20, ScheduleConfig(), tokens=16).double().tolist()
    x, v, noise = torch.randn(3, 16, 4, 4, dtype=torch.float64)
    for eta in (0.3, 0.7, 1.0):
        for index in range(19):
            now, then = levels[index : index + 2]
            x0, x1, dt = x - now * v, x + (1 - now) * v, then - now
            if sampler == "cps":
                std = then * math.sin(eta * math.pi / 2)
                mean = (1 - then) * x0 + math.sqrt(max(then**2 - std**2, 0)) * x1
            else:
                safe = levels[1] if now == 1 else now
                d = eta * math.sqrt(now / (1 - safe)) if sampler == "flow_sde" else eta
                mean = x + (v + d**2 / (2 * now) * x1) * dt
                std = d * math.sqrt(-dt)
            step = transition(levels, index, sampler=sampler, eta=eta)
            assert step.std == pytest.approx(std, rel=1e-12)
            torch.testing.assert_close(step.mean(x, v), mean, rtol=0, atol=1e-10)
            after = mean + std * noise
            brute = -((after - mean) ** 2).mean() / (2 * std**2)
            factor = scaling_factors([step], "gauss")[index]
            torch.testing.assert_close(
                log_probability(after, step.mean(x, v), factor), brute, rtol=1e-10, atol=1e-10
            )


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_without_noise_a_trajectory_is_the_ode_s(sampler: Sampler) -> None:
    sigmas = sampling_sigmas(12, ScheduleConfig(), tokens=16)

    def velocity(latents: Sequence[Tensor], step: int) -> list[Tensor]:
        return [0.3 * each.tanh() + step / 10 for each in latents]

    start = [torch.randn(16, 4, 4), torch.randn(16, 2, 6)]
    steps = trajectory(sigmas.tolist(), range(11), sampler=sampler, eta=0.0)
    *_, mine = sample(velocity, start, steps, lambda index: pytest.fail("no step has noise"))
    expected = start
    for index, (sigma, following) in enumerate(pairwise(sigmas.tolist())):
        slopes = zip(expected, velocity(expected, index), strict=True)
        expected = [euler_step(x, v, sigma, following)[0] for x, v in slopes]
    for one, other in zip(mine.after, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
    levels = sigmas.double().tolist()
    for index in range(12):
        step = transition(levels, index, sampler=sampler, eta=0.0)
        change = levels[index + 1] - levels[index]
        assert (step.latents, step.velocity, step.std) == (1.0, change, 0.0)


def oracle(step: Transition, latents: float, noise: float) -> float:
    """The mean of a step from given data and noise, with the true velocity."""
    noisy = (1 - step.sigma) * latents + step.sigma * noise
    return step.latents * noisy + step.velocity * (noise - latents)


def test_cps_keeps_the_weight_of_the_data_and_the_noise_level() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        now, then = sorted(rng.uniform(0, 1, 2), reverse=True)
        step = transition([now, then], 0, sampler="cps", eta=rng.uniform(0, 1))
        assert oracle(step, 1, 0) == pytest.approx(1 - then, abs=1e-12)
        assert oracle(step, 0, 1) ** 2 + step.std**2 == pytest.approx(then**2, abs=1e-12)


@pytest.mark.parametrize("sampler", ["flow_sde", "dance_sde"])
def test_the_other_samplers_keep_the_data_but_add_noise(sampler: Sampler) -> None:
    levels = sampling_sigmas(10, ScheduleConfig(), tokens=16).double().tolist()
    for index in range(1, 9):
        now, then = levels[index : index + 2]
        step = transition(levels, index, sampler=sampler, eta=0.7)
        d, dt = 0.7 * (math.sqrt(now / (1 - now)) if sampler == "flow_sde" else 1), then - now
        power = then**2 + d**2 * dt**2 / now + d**4 * dt**2 / (4 * now**2)
        assert oracle(step, 1, 0) == pytest.approx(1 - then, abs=1e-12)
        assert oracle(step, 0, 1) ** 2 + step.std**2 == pytest.approx(power, rel=1e-10)
        assert power > then**2


def test_the_noise_of_cps_has_the_level_s_variance_by_sampling() -> None:
    levels = sampling_sigmas(10, ScheduleConfig(), tokens=16).tolist()
    step = transition(levels, 4, sampler="cps", eta=0.7)
    count = 200_000
    noise = torch.randn(count)
    after = step.mean(step.sigma * noise, noise) + step.std * torch.randn(count)
    spread = step.following**2 * math.sqrt(2 / count)
    assert abs(after.var().item() - step.following**2) < 4 * spread


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_sensitivity_is_the_derivative_of_the_mean(sampler: Sampler) -> None:
    levels = sampling_sigmas(10, ScheduleConfig(), tokens=16).double().tolist()
    x, v = torch.randn(2, 8, dtype=torch.float64)
    for index in range(9):
        step = transition(levels, index, sampler=sampler, eta=0.7)
        slope = (step.mean(x, v + 1e-3) - step.mean(x, v - 1e-3)) / 2e-3
        torch.testing.assert_close(slope, torch.full_like(slope, step.velocity))


@pytest.mark.parametrize(
    ("steps", "sampler", "eta", "deviation"),
    [
        (10, "cps", 0.0, 0.818),
        (10, "cps", 0.7, 0.707),
        (20, "cps", 1.0, 0.639),
        (50, "cps", 0.5, 0.884),
        (20, "flow_sde", 0.7, 0.947),
        (50, "flow_sde", 0.7, 0.982),
    ],
)
def test_of_normal_data_samplers_lose_the_deviation_that_theory_says(
    steps: int, sampler: Sampler, eta: float, deviation: float
) -> None:
    levels = sampling_sigmas(steps, ScheduleConfig(), tokens=16).double().tolist()
    variance = 1.0
    samples = torch.randn(20_000, dtype=torch.float64)
    for step in trajectory(levels, range(steps - 1), sampler=sampler, eta=eta):
        # Of data from N(0, 1) the best velocity is linear in the latents.
        kept = (1 - step.sigma) / ((1 - step.sigma) ** 2 + step.sigma**2)
        slope = (1 - kept) / step.sigma
        factor = step.latents + step.velocity * slope
        variance = factor**2 * variance + step.std**2
        samples = step.mean(samples, slope * samples)
        samples = samples + step.std * torch.randn_like(samples)
    assert math.sqrt(variance) == pytest.approx(deviation, abs=6e-4)
    assert samples.std().item() == pytest.approx(deviation, abs=4 * deviation / math.sqrt(40_000))


def test_the_last_step_returns_the_data_estimate_and_is_never_stochastic() -> None:
    levels = sampling_sigmas(10, ScheduleConfig(), tokens=16).tolist()
    last = transition(levels, 9, sampler="cps", eta=1.0)
    x, v = torch.randn(2, 16, 4, 4)
    assert last.std == 0
    torch.testing.assert_close(last.mean(x, v), x - last.sigma * v)
    with pytest.raises(ValueError, match="from 0 to 8 can be stochastic"):
        trajectory(levels, [3, 9], sampler="cps", eta=1.0)


def test_stored_log_probabilities_are_recomputed_to_the_bit_in_float32() -> None:
    levels = sampling_sigmas(10, ScheduleConfig(), tokens=16).tolist()

    def velocity(latents: Sequence[Tensor], step: int) -> list[Tensor]:
        return [each.bfloat16().tanh() for each in latents]

    steps = trajectory(levels, range(3, 7), sampler="cps", eta=0.7)
    start = [torch.randn(16, 4, 4) for _ in range(3)]
    rng = torch.Generator().manual_seed(1)
    noise = {index: [torch.randn(16, 4, 4, generator=rng) for _ in start] for index in range(10)}
    seen = 0
    for each in sample(velocity, start, steps, noise.__getitem__):
        again = velocity(each.before, each.transition.index)
        for before, after, old, new in zip(
            each.before, each.after, each.velocities, again, strict=True
        ):
            assert before.dtype == after.dtype == old.dtype == torch.float32
            stored = log_probability(after, each.transition.mean(before, old), 1.0)
            found = log_probability(after, each.transition.mean(before, new), 1.0)
            assert stored.dtype == torch.float32
            assert torch.equal(stored, found)
            seen += bool(each.transition.std)
            # Outside the window a step is the ODE's.
            if not each.transition.std:
                change = each.transition.following - each.transition.sigma
                torch.testing.assert_close(after, before + change * old, rtol=0, atol=1e-6)
    assert seen == 4 * 3


def test_equal_scaling_gives_every_step_the_same_gradient_on_the_velocity() -> None:
    levels = sampling_sigmas(20, ScheduleConfig(), tokens=16).double().tolist()
    steps = trajectory(levels, range(18), sampler="cps", eta=1.0)[:18]
    factors = scaling_factors(steps, "equal")
    noise = torch.randn(16, 4, 4, dtype=torch.float64)
    gradients = {}
    for scaling in (factors, scaling_factors(steps, "cps")):
        sizes = []
        for step in steps:
            v = torch.zeros_like(noise, requires_grad=True)
            mean = step.mean(noise, v)
            after = (mean + step.std * noise).detach()
            log_probability(after, mean, scaling[step.index]).backward()
            assert v.grad is not None
            expected = scaling[step.index] * 2 / noise.numel() * (after - mean) * step.velocity
            torch.testing.assert_close(v.grad, expected.detach())
            sizes.append(v.grad.square().mean().sqrt().item())
        gradients[scaling[1]] = max(sizes) / min(sizes)
    equal, plain = gradients[factors[1]], gradients[1.0]
    assert equal == pytest.approx(1)
    assert plain > 5
