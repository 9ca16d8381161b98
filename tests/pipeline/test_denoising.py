"""Solvers and guidance that are opt-in, on the tiny recorded model."""

from typing import Any

import pytest
import torch

from deepgen.config.solver import SolverOptions
from deepgen.pipeline.denoising import Denoising, advance
from tests.pipeline.test_golden import pipeline

pytestmark = pytest.mark.filterwarnings("ignore:.*expect a poor result")


def made(**options: Any) -> torch.Tensor:
    settings = {"num_inference_steps": 3, "height": 64, "width": 64, "output_type": "latent"}
    settings |= {"seed": 3, "guidance_scale": 4.0, "negative_prompt": "dog"}
    return pipeline()("a cat", **settings | options).images


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of every pass through the DiT."""
    counted: list[int] = []
    dit = pipeline().model.dit
    original = dit.velocity

    def velocity(latents: Any, *others: Any) -> Any:
        counted.append(len(latents))
        return original(latents, *others)

    monkeypatch.setattr(dit, "velocity", velocity)
    return counted


def test_settings_that_change_nothing_are_equal_to_the_bit() -> None:
    plain = made()
    unchanged = {"solver": "euler", "guidance_interval": (0.0, 1.0), "guidance_rescale": 0.0}
    assert torch.equal(plain, made(**unchanged))
    # Its first step is Euler's.
    one = {"num_inference_steps": 1}
    assert torch.equal(made(**one), made(solver="ab2", **one))


def test_steps_outside_of_the_guidance_interval_evaluate_the_prompt_alone(rows: list[int]) -> None:
    alone = made(guidance_scale=1.0, padding="none", negative_prompt=None)
    assert rows == [1, 1, 1]
    rows.clear()
    never = made(guidance_interval=(0.0, 0.0), padding="none")
    assert rows == [1, 1, 1]
    assert torch.equal(alone, never)
    rows.clear()
    made(guidance_interval=(0.1, 0.9))
    assert rows == [1, 2, 1]


@pytest.mark.parametrize("options", [{"solver": "ab2"}, {"guidance_rescale": 0.7}])
def test_solver_and_rescaling_change_the_image_at_no_cost(
    options: dict[str, Any], rows: list[int]
) -> None:
    changed = made(**options)
    assert rows == [2, 2, 2]
    assert not torch.allclose(changed, made(), atol=1e-4)


def test_the_first_block_cache_runs_blocks_only_where_the_first_changes() -> None:
    ran: list[int] = []
    last = pipeline().model.dit.transformer_blocks[-1]
    hook = last.register_forward_pre_hook(lambda _, inputs: ran.append(len(inputs[0])))
    found = {}
    try:
        for threshold in (0.0, 0.4, 1.0):
            ran.clear()
            options = {"cache": "first-block", "cache_threshold": threshold}
            found[threshold] = made(num_inference_steps=6, **options), sum(ran)
    finally:
        hook.remove()
    exact = made(num_inference_steps=6)
    assert torch.equal(found[0.0][0], exact)
    assert found[0.0][1] > found[0.4][1] > found[1.0][1] >= 2
    for threshold in (0.4, 1.0):
        assert 0 < (found[threshold][0] - exact).abs().mean() < 0.5 * exact.abs().mean()


def test_rows_decide_by_themselves_whether_to_reuse_blocks() -> None:
    options = {"cache": "first-block", "cache_threshold": 0.6, "num_inference_steps": 4}
    both = made(num_images_per_prompt=2, **options)
    for index in range(2):
        alone = made(**options, seed=3 + index)
        assert torch.allclose(both[index], alone[0], atol=1e-4)


def test_the_taylor_cache_runs_the_dit_every_so_many_steps(rows: list[int]) -> None:
    exact = made(num_inference_steps=8)
    rows.clear()
    every_second = made(num_inference_steps=8, cache="taylor")
    assert rows == [2] * 5
    rows.clear()
    every_third = made(num_inference_steps=8, cache="taylor", cache_interval=3)
    assert rows == [2] * 4
    errors = [(each - exact).abs().mean() for each in (every_second, every_third)]
    assert 0 < errors[0] < errors[1]
    rows.clear()
    # Steps that have other rows than the last have nothing to extrapolate.
    made(num_inference_steps=8, cache="taylor", guidance_interval=(0.5, 1.0))
    assert rows == [2, 2, 2, 2, 1, 1]


def test_extrapolation_follows_a_velocity_that_is_linear_in_the_noise_level() -> None:
    latents = torch.zeros(16, 2, 2)
    images = Denoising(
        latents=[latents],
        sigmas=[1.0, 0.8, 0.5, 0.0],
        guidance_scale=1.0,
        is_guided=False,
        conditions=[],
        references=[],
        options=SolverOptions(cache="taylor"),
        computed=[(0, [latents + 1.0]), (1, [latents + 0.8])],
        step=2,
    )
    (step,) = advance(pipeline().model.dit, [images])
    assert torch.allclose(step.latents[0], torch.full_like(latents, -0.5 * 0.5))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": "rk4"}, "solver must be one of euler, ab2, got 'rk4'"),
        ({"guidance_interval": (0.9, 0.1)}, "two noise levels LOW <= HIGH from 0 to 1, got"),
        ({"cache": "deep"}, "cache must be one of none, first-block, taylor, got 'deep'"),
        ({"cache_threshold": -1.0}, "cache_threshold must be .* 0 .* 1"),
        ({"cache_interval": 1}, "cache_interval must be a whole number from 2 to 100, got 1"),
        ({"cache_threshold": 0.2}, "cache_threshold is of cache first-block, but cache is none"),
        ({"cache": "first-block", "cache_interval": 3}, "cache_interval is of cache taylor, but"),
        ({"guidance_rescale": 2.0}, "guidance_rescale must be .* 0 .* 1"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(**options)
