"""The linear layer gives the same numbers by either kernel, and gradients."""

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from deepgen.nn import linear
from deepgen.nn.linear import Linear


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


def test_gradients_flow_where_they_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "WORTHWHILE", 0)
    layer = Linear(24, 40)
    tokens = torch.randn(5, 24, requires_grad=True)
    layer(tokens).sum().backward()
    assert torch.allclose(tokens.grad, layer.weight.sum(dim=0).expand(5, -1), atol=1e-6)
    assert torch.equal(layer.bias.grad, torch.full((40,), 5.0))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions_stay_what_they_are(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(linear, "WORTHWHILE", 0)
    layer = Linear(24, 40, dtype=dtype)
    with torch.no_grad():
        assert layer(torch.randn(5, 24, dtype=dtype)).dtype == dtype
