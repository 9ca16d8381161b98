"""Rollouts: the same images in any company, shared work, one condition per prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from deepgen.config.rl import RolloutConfig
from deepgen.flow.schedule import sampling_sigmas
from deepgen.flow.sde import log_probability
from deepgen.model import DeepGen
from deepgen.rl.rollout import Group, GroupSampler, RolloutRng, Schedule, keys_of, schedule
from deepgen.types import Condition
from deepgen.types import Prompt as VlmPrompt
from tests.checkpoint.models import tiny_model
from tests.rl.running import PROMPTS, ROLLOUT


@pytest.fixture(scope="module")
def model() -> DeepGen:
    return tiny_model()


def plan_of(config: RolloutConfig, model: DeepGen, iteration: int = 0) -> Schedule:
    sigmas = sampling_sigmas(config.steps, model.schedule, tokens=4).tolist()
    return schedule(config, sigmas, 0, iteration)


def conditions_of(model: DeepGen, prompts: Sequence[Any]) -> list[Condition]:
    with torch.no_grad():
        found, _ = model.conditioner.encode(
            [VlmPrompt(text=each.prompt) for each in prompts], [], padding="none", guided=False
        )
    return found


def roll_out(
    model: DeepGen,
    prompts: Sequence[Any],
    plan: Schedule | None = None,
    config: RolloutConfig = ROLLOUT,
    iteration: int = 0,
) -> list[Group]:
    sampler = GroupSampler(model, config, RolloutRng(0), side=32)
    keys, conditions = keys_of(prompts, iteration), conditions_of(model, prompts)
    plan = plan or plan_of(config, model, iteration)
    return [group for some in sampler(keys, conditions, plan) for group in some]


def close(mine: Tensor, other: Tensor) -> bool:
    return torch.allclose(mine, other, rtol=0, atol=1e-6)


def test_images_do_not_depend_on_batches_order_or_company(model: DeepGen) -> None:
    config = replace(ROLLOUT, shared_noise=False)
    together = roll_out(model, PROMPTS[:3], config=config)
    alone = roll_out(model, PROMPTS[1:2], config=config)
    few = roll_out(model, PROMPTS[2::-1], config=replace(config, images_at_once=4))
    assert close(together[1].final, alone[0].final)
    for mine, other in zip(together, reversed(few), strict=True):
        assert close(mine.final, other.final)
        assert mine.final.dtype == torch.float32
    # The same prompt twice in an iteration, or in two, gives other images.
    twice = roll_out(model, [PROMPTS[0], PROMPTS[0]])
    later = roll_out(model, PROMPTS[:1], plan_of(ROLLOUT, model), iteration=1)
    finals = [each.final for each in (*twice, *later)]
    assert all(not close(finals[a], finals[b]) for a, b in ((0, 1), (0, 2), (1, 2)))


def test_noise_is_a_function_of_seed_iteration_prompt_image_and_step() -> None:
    shape = torch.Size([2, 4, 4])
    (key,), rng = keys_of(PROMPTS[:1], 3), RolloutRng(0)
    (later,), other = keys_of(PROMPTS[:1], 4), RolloutRng(1)
    assert torch.equal(rng.step(key, 1, 2, shape), RolloutRng(0).step(key, 1, 2, shape))
    drawn = [
        *(rng.step(key, 1, 2, shape), rng.step(key, 0, 2, shape), rng.step(key, 1, 3, shape)),
        *(rng.step(later, 1, 2, shape), other.step(key, 1, 2, shape)),
        rng.start(key, 1, shape, shared=False),
        rng.start(key, 1, shape, shared=True),
    ]
    assert len({each.sum().item() for each in drawn}) == len(drawn)
    assert torch.equal(drawn[-1], rng.start(key, 0, shape, shared=True))


def test_a_shared_prefix_gives_the_images_that_single_rollouts_have(model: DeepGen) -> None:
    plan = first_late_plan(model)
    shared = roll_out(model, PROMPTS[:2], plan)
    rows = []
    # As if every image had its own prompt, which starts from the noise of the group.
    sampler = GroupSampler(model, replace(ROLLOUT, shared_noise=False), SharedStart(0), side=32)
    keys, conditions = keys_of(PROMPTS[:2], 0), conditions_of(model, PROMPTS[:2])
    for some in sampler(keys, conditions, plan):
        rows += some
    for mine, other in zip(shared, rows, strict=True):
        assert close(mine.final, other.final)
        assert not torch.allclose(mine.final[0], mine.final[1], atol=1e-2)
        assert close(mine.states[plan.trained[0]][0], mine.states[plan.trained[0]][1])
        for index in plan.trained:
            assert close(mine.log_probs[index], other.log_probs[index])


class SharedStart(RolloutRng):
    def start(self, key: Any, member: int, shape: torch.Size, *, shared: bool) -> Tensor:
        return super().start(key, member, shape, shared=True)


def first_late_plan(model: DeepGen) -> Schedule:
    """A window that begins after the first step."""
    plans = (plan_of(ROLLOUT, model, iteration) for iteration in range(20))
    return next(each for each in plans if each.trained[0] > 0)


def test_stored_log_probabilities_are_those_of_the_stored_latents(model: DeepGen) -> None:
    plan = first_late_plan(model)
    (group,) = roll_out(model, PROMPTS[:1], plan)
    for index in plan.trained:
        step = plan.transitions[index]
        with torch.no_grad():
            velocities = model.dit(
                list(group.states[index]),
                torch.full((4,), 1000 * step.sigma),
                [group.condition] * 4,
                [[]] * 4,
            )
        again = [
            log_probability(after, step.mean(before, v), plan.factors[index])
            for before, after, v in zip(
                group.states[index], group.states[index + 1], velocities, strict=True
            )
        ]
        assert group.log_probs[index].dtype == torch.float32
        assert close(torch.stack(again), group.log_probs[index])


def test_trained_steps_are_a_window_in_the_first_half_or_a_random_fraction(
    model: DeepGen,
) -> None:
    config = RolloutConfig(steps=20, window=6)
    firsts = {plan_of(config, model, iteration).trained[0] for iteration in range(200)}
    assert firsts == set(range(11))
    plan = plan_of(config, model)
    assert [each.index for each in plan.transitions if each.std] == list(plan.trained)
    reference = RolloutConfig(steps=50, window=None, eta=1.0)
    drawn = plan_of(reference, model).trained
    assert (len(drawn), max(drawn) < 49, list(drawn) == sorted(set(drawn))) == (30, True, True)
    assert sum(each.std > 0 for each in plan_of(reference, model).transitions) == 49
    assert plan_of(reference, model, 1).trained != drawn
    every = plan_of(replace(reference, trained_fraction=1.0), model)
    assert every.trained == tuple(range(49))


def test_settings_that_cannot_be_sampled_are_refused_in_one_line() -> None:
    for options, expected in (
        ({"group_size": 1}, "group_size must be at least 2, got 1"),
        ({"steps": 10, "window": 6}, "use at most 4"),
        ({"eta": 1.5}, "eta of cps must be at most 1, got 1.5"),
    ):
        with pytest.raises(ValueError, match=expected):
            RolloutConfig(**options)
