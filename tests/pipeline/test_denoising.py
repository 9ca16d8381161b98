"""Solvers and guidance that are opt-in, on the tiny recorded model."""

from typing import Any

import pytest
import torch

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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": "rk4"}, "solver must be one of euler, ab2, got 'rk4'"),
        ({"guidance_interval": (0.9, 0.1)}, "two noise levels LOW <= HIGH from 0 to 1, got"),
        ({"guidance_rescale": 2.0}, "guidance_rescale must be .* 0 .* 1"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(**options)
