import math

import pytest
import torch
from torch import nn

from deepgen.errors import CheckpointError
from deepgen.train.optim import AdamW, warmup_cosine, warmup_then_cosine


def layer() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def test_the_first_update_is_that_of_the_equation_and_only_matrices_decay() -> None:
    module = layer()
    weight, bias = module.weight.detach().clone(), module.bias.detach().clone()
    optimizer = AdamW(module.named_parameters(), lr=1.0, weight_decay=0.05)
    module(torch.tensor([[1.0, -2.0, 3.0]])).sum().backward()
    optimizer.step(0.01)
    signs = torch.tensor([1.0, -1.0, 1.0])
    # With both moments corrected, the first step is lr times the sign of the gradient.
    torch.testing.assert_close(module.weight.detach(), weight * (1 - 0.01 * 0.05) - 0.01 * signs)
    torch.testing.assert_close(module.bias.detach(), bias - 0.01)


def test_the_fused_kernel_makes_the_same_updates() -> None:
    plain, fused = layer(), layer()
    for module, is_fused in ((plain, False), (fused, True)):
        optimizer = AdamW(module.named_parameters(), lr=1.0, is_fused=is_fused)
        for scale in (1.0, -0.3, 2.0):
            module.zero_grad()
            (scale * module(torch.tensor([[1.0, -2.0, 3.0]]))).square().sum().backward()
            optimizer.step(0.01)
    for one, other in zip(fused.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_moments_decay_as_published() -> None:
    module = layer()
    optimizer = AdamW(module.named_parameters(), lr=1.0)
    for gradient in (1.0, 3.0):
        module.weight.grad = torch.full_like(module.weight, gradient)
        module.bias.grad = torch.zeros_like(module.bias)
        optimizer.step(0.0)
    tensors = optimizer.tensors()
    first, second = 0.9 * 0.1 + 0.1 * 3, 0.95 * 0.05 + 0.05 * 9
    torch.testing.assert_close(tensors["exp_avg.weight"], torch.full((2, 3), first))
    torch.testing.assert_close(tensors["exp_avg_sq.weight"], torch.full((2, 3), second))


def test_an_optimizer_goes_on_from_its_tensors_whatever_the_order_of_the_parameters() -> None:
    one, two = layer(), layer()
    first = AdamW(one.named_parameters(), lr=1.0)
    second = AdamW(reversed(list(two.named_parameters())), lr=1.0)
    for step in range(4):
        for module, optimizer in ((one, first), (two, second)):
            module(torch.tensor([[1.0, -2.0, float(step)]])).square().sum().backward()
            optimizer.step(0.1)
            optimizer.zero_grad()
        if step == 1:
            second = AdamW(reversed(list(two.named_parameters())), lr=1.0)
            second.load_tensors({name: each.clone() for name, each in first.tensors().items()})
    assert torch.equal(one.weight, two.weight)
    with pytest.raises(CheckpointError, match="names other, which is not trained"):
        first.load_tensors({"exp_avg.other": torch.zeros(1)})


def test_the_published_learning_rate_rises_linearly_then_falls_to_nothing() -> None:
    factors = [warmup_then_cosine(step, steps=1000, warmup=10) for step in range(1001)]
    assert factors[0] == 1e-5
    assert factors[5] == pytest.approx(0.5, abs=1e-4)
    assert factors[10] == 1
    assert factors[505] == pytest.approx(0.5)
    assert factors[258] == pytest.approx(0.5 * (1 + math.cos(math.pi * 248 / 990)))
    assert factors[1000] == 0
    assert warmup_then_cosine(0, steps=10, warmup=0) == 1
    # The last checkpoint of a run that is all warm-up asks for the factor behind its end.
    assert warmup_then_cosine(10, steps=10, warmup=10) == 1


def test_the_learning_rate_of_short_runs_rises_then_falls_to_a_floor() -> None:
    factors = [warmup_cosine(step, steps=100, warmup=10) for step in range(101)]
    assert factors[0] < factors[5] < factors[10]
    assert factors[10] > factors[50] > factors[99] > 0
    assert factors[100] == pytest.approx(0.02)
