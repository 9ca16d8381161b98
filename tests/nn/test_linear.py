"""The linear layer gives the same numbers by either kernel, and gradients."""

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from deepgen.nn import linear
from deepgen.nn.linear import Linear, use_onednn_linear


@pytest.mark.parametrize("bias", [True, False])
def test_the_faster_kernel_computes_the_same(monkeypatch: pytest.MonkeyPatch, bias: bool) -> None:
    monkeypatch.setattr(linear, "WORTHWHILE", 0)
    layer = Linear(24, 40, bias=bias)
    # Not contiguous, as the tokens of a longer sequence are.
    tokens = torch.randn(2, 9, 24)[:, :5]
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU]) as seen:
        mine = layer(tokens)
    with torch.no_grad():
        true = nn.functional.linear(tokens.double(), layer.weight.double())
        true += 0 if layer.bias is None else layer.bias.double()
    assert (mine - true).abs().max() <= 1e-6 * true.abs().max()
    assert mine.shape == (2, 5, 40)
    if torch.backends.mkldnn.is_available():
        assert any("mkldnn" in each.key for each in seen.key_averages())


@pytest.mark.parametrize("bias", [True, False])
def test_the_faster_kernel_has_the_same_gradients(
    monkeypatch: pytest.MonkeyPatch, bias: bool
) -> None:
    monkeypatch.setattr(linear, "WORTHWHILE", 0)
    layer = Linear(24, 40, bias=bias)
    tokens = torch.randn(2, 9, 24, requires_grad=True)
    upstream = torch.randn(2, 5, 40)

    def gradients(*, fast: bool) -> list[torch.Tensor]:
        with (
            torch.backends.mkldnn.flags(enabled=fast),
            profile(activities=[ProfilerActivity.CPU]) as seen,
        ):
            given = [tokens, *layer.parameters()]
            found = torch.autograd.grad(layer(tokens[:, :5]), given, upstream)
        used = any("mkldnn" in each.key for each in seen.key_averages())
        assert used == (fast and torch.backends.mkldnn.is_available())
        return list(found)

    plain, mine = (gradients(fast=each) for each in (False, True))
    for one, other in zip(mine, plain, strict=True):
        assert (one - other).abs().max() <= 1e-6 * other.abs().max()


def test_gradients_flow_where_they_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "WORTHWHILE", 0)
    layer = Linear(24, 40).requires_grad_(False)
    tokens = torch.randn(5, 24, requires_grad=True)
    layer(tokens).sum().backward()
    assert tokens.grad is not None
    assert torch.allclose(tokens.grad, layer.weight.sum(dim=0).expand(5, -1), atol=1e-6)
    assert layer.weight.grad is None
    layer.requires_grad_(True)
    layer(tokens.detach()).sum().backward()
    assert layer.bias.grad is not None
    assert torch.equal(layer.bias.grad, torch.full((40,), 5.0))


def test_a_frozen_layer_keeps_no_input_for_the_backward_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(linear, "WORTHWHILE", 0)
    layer = Linear(24, 40).requires_grad_(False)
    kept: list[int] = []
    tokens = torch.randn(5, 24, requires_grad=True)

    def note(value: torch.Tensor) -> torch.Tensor:
        kept.append(value.data_ptr())
        return value

    with torch.autograd.graph.saved_tensors_hooks(note, lambda value: value):
        layer(tokens)
    assert layer.weight.data_ptr() in kept
    assert tokens.data_ptr() not in kept


def test_mixed_precision_is_left_to_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "WORTHWHILE", 0)
    with torch.autocast("cpu", torch.bfloat16):
        assert Linear(24, 40)(torch.randn(5, 24)).dtype == torch.bfloat16


def test_layers_of_a_library_take_the_kernel_and_keep_their_weights() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    tokens = torch.randn(5, 3)
    before, names = module(tokens), list(module.state_dict())
    use_onednn_linear(module)
    assert [type(each) for each in module] == [Linear, nn.ReLU, Linear]
    assert torch.equal(module(tokens), before)
    assert list(module.state_dict()) == names


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions_stay_what_they_are(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(linear, "WORTHWHILE", 0)
    layer = Linear(24, 40, dtype=dtype)
    with torch.no_grad():
        assert layer(torch.randn(5, 24, dtype=dtype)).dtype == dtype
