import pytest
import torch
from torch import nn

from deepgen.train.ema import Ema


def test_the_average_follows_with_a_decay_that_starts_low() -> None:
    value = nn.Parameter(torch.zeros(3))
    ema = Ema({"value": value}, decay=0.3)
    expected = 0.0
    for step, decay in enumerate((1 / 10, 2 / 11, 3 / 12, 0.3, 0.3)):
        value.data.fill_(step + 1.0)
        ema.update(step)
        expected += (1 - decay) * (step + 1 - expected)
        assert ema.weights["value"][0].item() == pytest.approx(expected)


def test_the_average_of_half_precision_weights_moves_by_less_than_they_can() -> None:
    value = nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    ema = Ema({"value": value}, decay=0.999)
    value.data += 2**-7
    ema.update(10**6)
    assert ema.weights["value"].dtype == torch.float32
    assert ema.weights["value"][0].item() == pytest.approx(1 + 1e-3 * 2**-7, rel=1e-6)


def test_weights_come_back_bit_for_bit_after_the_average_was_used() -> None:
    value = nn.Parameter(torch.randn(3))
    own = value.detach().clone()
    ema = Ema({"value": value})
    value.data += 1e-8 + torch.randn(3)
    moved = value.detach().clone()
    with pytest.raises(RuntimeError, match="inside"), ema.applied():
        assert torch.equal(value, own)
        raise RuntimeError("inside")
    assert torch.equal(value, moved)
    ema.copy_to_model()
    assert torch.equal(value, own)
