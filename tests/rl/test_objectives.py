"""The loss of both objectives: gradients by automatic differentiation, and what holds exactly."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from deepgen.config.model import ScheduleConfig
from deepgen.config.rl import Divergence, PolicyConfig, Sampler, Scaling
from deepgen.flow.schedule import sampling_sigmas
from deepgen.flow.sde import sample, scaling_factors, trajectory
from deepgen.rl.grpo import (
    GrpoObjective,
    TransitionBatch,
    clipped_surrogate,
    divergence_factor,
)
from deepgen.rl.nft import NftObjective, NoisedBatch, probabilities
from tests.rl.toy import condition, gradient, toy

ROWS = 6
RNG = torch.Generator()


def rollout(
    model: Any, sampler: Sampler = "cps", scaling: Scaling = "cps", *, stored: bool = False
) -> TransitionBatch:
    """Three images at steps 2 and 4, sampled by the model."""
    levels = sampling_sigmas(8, ScheduleConfig(), tokens=16).double().tolist()
    steps = trajectory(levels, [2, 4], sampler=sampler, eta=0.7)
    rng = torch.Generator().manual_seed(1)
    conditions = [condition(value) for value in (0.1, 0.5, -0.3)]

    def normal() -> list[Tensor]:
        return [torch.randn(2, 4, 4, generator=rng, dtype=torch.float64) for _ in conditions]

    def velocity(latents: Any, index: int) -> list[Tensor]:
        times = torch.full((3,), 1000 * levels[index], dtype=torch.float64)
        found: list[Tensor] = model.dit(latents, times, conditions, [])
        return found

    with torch.no_grad():
        done = [
            s for s in sample(velocity, normal(), steps, lambda index: normal()) if s.transition.std
        ]
    factors = scaling_factors([each.transition for each in done], scaling)
    old = [
        -factors[s.transition.index] * (x - s.transition.mean(b, v)).square().mean()
        for s in done
        for b, x, v in zip(s.before, s.after, s.velocities, strict=True)
    ]
    return TransitionBatch(
        latents=[each for s in done for each in s.before],
        following=[each for s in done for each in s.after],
        sigmas=torch.tensor([s.transition.sigma for s in done for _ in range(3)]).double(),
        conditions=conditions * 2,
        transitions=[s.transition for s in done for _ in range(3)],
        factors=[factors[s.transition.index] for s in done for _ in range(3)],
        advantages=torch.tensor([1.5, -0.4, 0.9] * 2).double(),
        weights=torch.full((ROWS,), 1 / ROWS, dtype=torch.float64),
        old_log_probs=torch.stack(old) if stored else None,
        reference_velocities=None,
    )


def with_reference(batch: TransitionBatch, reference: Any) -> TransitionBatch:
    with torch.no_grad():
        found = reference.dit(batch.latents, 1000 * batch.sigmas, batch.conditions, [])
    return replace(batch, reference_velocities=found)


def learned(config: PolicyConfig, model: Any, batch: TransitionBatch) -> tuple[Any, Tensor]:
    model.zero_grad()
    loss = GrpoObjective(config)(model, batch, RNG)
    loss.total.backward()
    return loss, gradient(model)


def written(config: PolicyConfig, model: Any, batch: TransitionBatch) -> Tensor:
    """The objective as the paper writes it, without anything of ours but the step's numbers."""
    weights = dict(model.dit.named_parameters())
    first, second, third = weights["weights"]
    total = torch.zeros((), dtype=torch.float64)
    for row in range(len(batch.latents)):
        x, after = batch.latents[row], batch.following[row]
        step, value = batch.transitions[row], batch.conditions[row].pooled_prompt_embeds[0]
        velocity = (
            first * x @ weights["mix"] + second * x.tanh() * batch.sigmas[row] + third * value
        )
        mean = step.latents * x + step.velocity * velocity
        log_prob = -batch.factors[row] * ((after - mean) ** 2).sum() / after.numel()
        old = log_prob.detach() if batch.old_log_probs is None else batch.old_log_probs[row]
        ratio = torch.exp(log_prob - old)
        advantage = batch.advantages[row]
        high, low = ratio > 1 + config.clip_high, ratio < 1 - config.clip_low
        clipped = (advantage > 0 and high) or (advantage < 0 and low)
        # A clipped term is a constant.
        term = -advantage * (ratio.detach() if clipped else ratio)
        if batch.reference_velocities is not None:
            apart = ((velocity - batch.reference_velocities[row]) ** 2).mean()
            by = {
                "v": 1.0,
                "v_over_var": 1 / (2 * step.std**2 + 1e-7),
                "x": step.velocity**2 / (2 * step.std**2),
            }
            term = term + config.beta * by[config.divergence] * apart
        total = total + term / ROWS
    model.zero_grad()
    total.backward()
    return gradient(model)


@pytest.mark.parametrize("divergence", ["v", "v_over_var", "x"])
@pytest.mark.parametrize("sampler", ["cps", "flow_sde", "dance_sde"])
def test_the_gradient_of_an_update_is_that_of_the_written_objective(
    sampler: Sampler, divergence: Divergence
) -> None:
    model, reference = toy(), toy(1)
    batch = with_reference(rollout(model, sampler, "gauss", stored=True), reference)
    with torch.no_grad():
        # Away from the rollout's policy, so that some ratios are clipped.
        model.dit.weights -= 0.1
    config = PolicyConfig(beta=0.1, divergence=divergence, clip_low=1e-3, clip_high=1e-3)
    loss, mine = learned(config, model, batch)
    torch.testing.assert_close(mine, written(config, model, batch), rtol=1e-6, atol=1e-12)
    clipped = loss.means["clipped/high"][0] + loss.means["clipped/low"][0]
    assert 0 < clipped < ROWS


def test_at_first_use_ratios_are_1_and_the_gradient_is_the_policy_gradient() -> None:
    for stored in (False, True):
        model = toy()
        batch = rollout(model, stored=stored)
        loss, mine = learned(PolicyConfig(beta=0.0), model, batch)
        error = loss.means["ratio_error"][0]
        assert error == 0 if not stored else error < 1e-12
        assert loss.means["ratio"] == (pytest.approx(ROWS), ROWS)
        model.zero_grad()
        velocities = model.dit(batch.latents, 1000 * batch.sigmas, batch.conditions, [])
        total = torch.zeros((), dtype=torch.float64)
        for row, velocity in enumerate(velocities):
            step = batch.transitions[row]
            apart = batch.following[row] - step.mean(batch.latents[row], velocity)
            total = total + batch.advantages[row] * apart.square().mean() / ROWS
        total.backward()
        torch.testing.assert_close(mine, gradient(model), rtol=1e-9, atol=1e-14)


def test_what_is_clipped_has_no_gradient_and_what_returns_has_one() -> None:
    ratios = torch.tensor([1.2, 0.8, 1.2, 0.8], requires_grad=True)
    advantages = torch.tensor([1.0, 1.0, -1.0, -1.0])
    clipped_surrogate(ratios, advantages, low=0.1, high=0.1).sum().backward()
    assert ratios.grad is not None
    assert ratios.grad.tolist() == [0.0, -1.0, 1.0, 0.0]


def test_the_divergence_is_0_at_the_reference_policy_and_pulls_back_to_it() -> None:
    model, reference = toy(), toy()
    batch = replace(
        with_reference(rollout(model), reference), advantages=torch.zeros(ROWS).double()
    )
    config = PolicyConfig(beta=1.0)
    loss, mine = learned(config, model, batch)
    assert loss.parts["kl"] == 0
    assert not mine.any()
    with torch.no_grad():
        model.dit.weights[0] += 0.1
    loss, mine = learned(config, model, batch)
    assert loss.parts["kl"] > 0
    # The first of the weights is the one that was moved up.
    assert mine[0] > 0


def test_x_is_v_over_var_times_the_squared_sensitivity() -> None:
    for step in rollout(toy()).transitions:
        ratio = divergence_factor("x", step) / divergence_factor("v_over_var", step)
        assert ratio == pytest.approx(step.velocity**2, rel=1e-5)


def part(batch: TransitionBatch, rows: list[int]) -> TransitionBatch:
    def rows_of(values: Any) -> Any:
        return [values[row] for row in rows]

    return replace(
        batch,
        **{
            name: rows_of(getattr(batch, name))
            for name in ("latents", "following", "conditions", "transitions", "factors")
        },
        **{name: getattr(batch, name)[rows] for name in ("sigmas", "advantages", "weights")},
    )


def test_the_gradient_does_not_depend_on_micro_batches() -> None:
    model = toy()
    batch = rollout(model)
    _, whole = learned(PolicyConfig(beta=0.0), model, batch)
    model.zero_grad()
    for rows in ([5, 0, 3, 1], [2], [4]):
        GrpoObjective(PolicyConfig(beta=0.0))(model, part(batch, rows), RNG).total.backward()
    torch.testing.assert_close(gradient(model), whole, rtol=0, atol=1e-10)


def noised(model: Any) -> NoisedBatch:
    batch = rollout(model)
    rng = torch.Generator().manual_seed(4)
    clean = [torch.randn(2, 4, 4, generator=rng, dtype=torch.float64) for _ in range(ROWS)]
    noise = [torch.randn(2, 4, 4, generator=rng, dtype=torch.float64) for _ in range(ROWS)]
    sigmas = torch.tensor([0.9, 0.5, 0.3, 0.7, 0.2, 0.8]).double()
    latents = [(1 - s) * x + s * e for s, x, e in zip(sigmas, clean, noise, strict=True)]
    return NoisedBatch(
        latents=latents,
        clean=clean,
        sigmas=sigmas,
        conditions=batch.conditions,
        advantages=batch.advantages,
        weights=batch.weights,
        reference_velocities=None,
        old_velocities=None,
    )


@pytest.mark.parametrize("is_stored", [False, True])
def test_the_gradient_of_nft_is_that_of_the_written_objective(is_stored: bool) -> None:
    model, old, reference = toy(), toy(2), toy(1)
    batch = noised(model)
    with torch.no_grad():
        arguments: Any = (batch.latents, 1000 * batch.sigmas, batch.conditions, [])
        before = (old if is_stored else model).dit(*arguments)
        batch = replace(batch, reference_velocities=reference.dit(*arguments))
    if is_stored:
        batch = replace(batch, old_velocities=before)
    config = PolicyConfig(objective="nft", beta=0.2, nft_beta=0.7)
    model.zero_grad()
    NftObjective(config, largest=5.0)(model, batch, RNG).total.backward()
    mine = gradient(model)
    model.zero_grad()
    total = torch.zeros((), dtype=torch.float64)
    velocities = model.dit(*arguments)
    for row, v in enumerate(velocities):
        sigma, clean, noisy = batch.sigmas[row], batch.clean[row], batch.latents[row]
        good = 0.5 + 0.5 * batch.advantages[row] / 5
        plus = (1 - 0.7) * before[row] + 0.7 * v
        minus = (1 + 0.7) * before[row] - 0.7 * v
        for chance, velocity in ((good, plus), (1 - good, minus)):
            apart = noisy - sigma * velocity - clean
            weight = apart.detach().abs().mean()
            total = total + chance * (apart**2).mean() / weight / ROWS
        assert batch.reference_velocities is not None
        total = total + 0.2 * ((v - batch.reference_velocities[row]) ** 2).mean() / ROWS
    total.backward()
    torch.testing.assert_close(mine, gradient(model), rtol=1e-6, atol=1e-12)


def test_nft_moves_velocities_towards_good_images_and_away_from_bad_ones() -> None:
    assert probabilities(torch.tensor([-9.0, 0.0, 2.5]), 5.0).tolist() == [0.0, 0.5, 0.75]
    for sign in (1.0, -1.0):
        model = toy()
        batch = replace(noised(model), advantages=torch.full((ROWS,), 5 * sign).double())
        model.zero_grad()
        NftObjective(PolicyConfig(beta=0.0), largest=5.0)(model, batch, RNG).total.backward()
        with torch.no_grad():
            arguments: Any = (batch.latents, 1000 * batch.sigmas, batch.conditions, [])
            before = distance(model.dit(*arguments), batch)
            for value in model.parameters():
                value -= 1e-3 * value.grad / value.grad.norm()
            after = distance(model.dit(*arguments), batch)
        assert sign * (after - before) < 0


def distance(velocities: list[Tensor], batch: NoisedBatch) -> float:
    """Mean error of the data estimates."""
    return sum(
        float((x - s * v - clean).square().mean() / (x - clean).abs().mean())
        for x, s, v, clean in zip(batch.latents, batch.sigmas, velocities, batch.clean, strict=True)
    )
