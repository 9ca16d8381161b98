from collections.abc import Sequence

import torch

from deepgen.config.model import ScheduleConfig
from deepgen.flow.guidance import guide, is_guided
from deepgen.flow.ode import Velocity, euler
from deepgen.flow.path import clean_estimate, interpolate
from deepgen.flow.schedule import sampling_sigmas
from deepgen.types import Latents

SIGMAS = sampling_sigmas(50, ScheduleConfig(), tokens=16)


def last(velocity: Velocity, noise: list[Latents]) -> list[Latents]:
    *_, step = euler(velocity, noise, SIGMAS)
    return step.latents


def test_a_constant_velocity_telescopes_to_noise_minus_velocity() -> None:
    noise, velocity = torch.randn(16, 4, 6), torch.randn(16, 4, 6)
    (latents,) = last(lambda latents, step: [velocity], [noise])
    torch.testing.assert_close(latents, noise - velocity, rtol=0, atol=2e-6)


def test_one_euler_step_along_the_true_velocity_recovers_the_latents() -> None:
    latents, noise = torch.randn(3, 16, 4, 4), torch.randn(3, 16, 4, 4)
    sigmas = torch.tensor([0.2, 0.7, 1.0])
    noisy, velocity = interpolate(latents, noise, sigmas)
    for index, sigma in enumerate(sigmas.tolist()):
        estimate = clean_estimate(noisy[index], velocity[index], sigma)
        torch.testing.assert_close(estimate, latents[index], rtol=0, atol=1e-5)


def test_images_of_different_sizes_go_together_and_the_noise_is_left_alone() -> None:
    noise = [torch.randn(16, 4, 4), torch.randn(16, 8, 2)]
    before = [image.clone() for image in noise]

    def velocity(latents: Sequence[Latents], step: int) -> list[Latents]:
        return [0.5 * image for image in latents]

    together = last(velocity, noise)
    alone = [last(velocity, [image])[0] for image in noise]
    for image, same in zip(together, alone, strict=True):
        assert torch.equal(image, same)
    assert all(torch.equal(a, b) for a, b in zip(noise, before, strict=True))


def test_whoever_watches_may_replace_the_latents_or_leave() -> None:
    seen = []
    for step in euler(lambda latents, step: latents, [torch.ones(1, 2, 2)], SIGMAS):
        seen.append(step.index)
        step.latents[0] = torch.zeros(1, 2, 2)
        if step.index == 3:
            break
    assert seen == [0, 1, 2, 3]

    def record(latents: Sequence[Latents], step: int) -> list[Latents]:
        assert step == 0 or not latents[0].any()
        return list(latents)

    for step in euler(record, [torch.ones(1, 2, 2)], SIGMAS):
        step.latents[0] = torch.zeros(1, 2, 2)


def test_the_last_steps_clean_estimate_is_the_result() -> None:
    steps = list(euler(lambda latents, step: [latents[0].tanh()], [torch.randn(1, 4, 4)], SIGMAS))
    torch.testing.assert_close(steps[-1].clean_latents[0], steps[-1].latents[0])


def test_guidance_moves_away_from_the_negative_prompt() -> None:
    negative, positive = torch.randn(4), torch.randn(4)
    torch.testing.assert_close(guide(negative, positive, 1.0), positive)
    torch.testing.assert_close(guide(positive, positive, 7.5), positive)
    torch.testing.assert_close(guide(negative, positive, 3.0) - positive, 2 * (positive - negative))
    assert not is_guided(1.0)
    assert is_guided(1.01)
