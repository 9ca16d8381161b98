import math

import pytest
import torch

from deepgen.flow.loss import level_weights, velocity_errors


def test_weights_are_those_of_the_equations() -> None:
    sigmas = torch.tensor([0.5, 0.25, 1.0])
    assert level_weights(sigmas, "none").tolist() == [1, 1, 1]
    assert level_weights(sigmas, "sigma_sqrt").tolist() == [4, 16, 1]
    cosmap = level_weights(sigmas, "cosmap")
    assert cosmap.tolist() == pytest.approx([4 / math.pi, 3.2 / math.pi, 2 / math.pi])


def test_a_large_image_counts_no_more_than_a_small_one() -> None:
    small, large = torch.zeros(16, 2, 2), torch.zeros(16, 8, 12)
    errors = velocity_errors([small + 1, large + 3], [small, large], torch.tensor([1.0, 2.0]))
    assert errors.tolist() == [1, 18]


def test_errors_of_half_precision_predictions_are_summed_in_float32() -> None:
    predicted = torch.full((16, 64, 64), 300.0, dtype=torch.float16)
    errors = velocity_errors([predicted], [torch.zeros(16, 64, 64)], torch.ones(1))
    assert errors.item() == pytest.approx(90_000)
