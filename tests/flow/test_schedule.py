import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from deepgen.config.model import ScheduleConfig
from deepgen.flow.schedule import sampling_sigmas, training_sigmas
from tests.shared import error, golden

STATIC = ScheduleConfig()
DYNAMIC = ScheduleConfig(use_dynamic_shifting=True, shift=1.0, max_shift=1.16)


@pytest.mark.parametrize("steps", [1, 4, 8, 20, 50])
def test_sampling_sigmas_are_the_recorded_ones(steps: int) -> None:
    recorded = np.load(golden("scheduler/flow_match_shift3.npz"))
    sigmas = sampling_sigmas(steps, STATIC, tokens=1024)
    assert error(sigmas, recorded[f"n{steps}.sigmas"]) <= 1e-7
    assert error(1000 * sigmas[:-1], recorded[f"n{steps}.timesteps"]) <= 1e-7


def test_training_sigmas_are_the_recorded_ones() -> None:
    recorded = np.load(golden("scheduler/flow_match_shift3.npz"))
    assert error(training_sigmas(STATIC), recorded["train.sigmas"]) <= 1e-7
    assert error(1000 * training_sigmas(STATIC), recorded["train.timesteps"]) <= 1e-6


def test_fifty_steps_start_at_one_and_end_at_zero() -> None:
    sigmas = sampling_sigmas(50, STATIC, tokens=1024)
    expected = {0: 1.0, 1: 0.99312437, 2: 0.98605704, 48: 0.06690018, 49: 0.00892857, 50: 0.0}
    for index, value in expected.items():
        assert sigmas[index].item() == pytest.approx(value, abs=1e-7)


@pytest.mark.parametrize("steps", [1, 2, 7, 28])
@pytest.mark.parametrize("tokens", [256, 1024, 4096])
def test_dynamic_shift_is_that_of_diffusers(steps: int, tokens: int) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(
        shift=1.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=1.16
    )
    slope = (1.16 - 0.5) / (4096 - 256)
    scheduler.set_timesteps(steps, mu=0.5 + slope * (tokens - 256))
    assert error(sampling_sigmas(steps, DYNAMIC, tokens=tokens), scheduler.sigmas) <= 1e-6


def test_sigmas_fall() -> None:
    for config in (STATIC, DYNAMIC):
        assert torch.all(sampling_sigmas(30, config, tokens=1024).diff() < 0)


def test_no_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        sampling_sigmas(0, STATIC, tokens=1024)
