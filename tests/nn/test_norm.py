"""The norm with a derivative of its own is torch's, and so are its gradients."""

import pytest
import torch
import torch.nn.functional as F

from deepgen.nn.norm import rms_norm


@pytest.mark.parametrize("frozen", [True, False])
def test_norm_and_gradients_are_those_of_the_definition(frozen: bool) -> None:
    torch.manual_seed(0)
    # Heads as they come, not contiguous; one of them so small that epsilon counts.
    vectors = torch.randn(2, 9, 3, 8)[:, :5]
    vectors[0, 0, 0] *= 1e-3
    weight, upstream = torch.rand(8) + 0.5, torch.randn(2, 5, 3, 8)
    given = vectors.clone().requires_grad_(), weight.clone().requires_grad_(not frozen)
    wide = vectors.double().requires_grad_(), weight.double().requires_grad_(not frozen)

    mine = rms_norm(*given, 1e-6)
    true = wide[0] / (wide[0].square().mean(dim=-1, keepdim=True) + 1e-6).sqrt() * wide[1]
    assert (mine - true).abs().max() <= 1e-6 * true.abs().max()

    found = torch.autograd.grad(mine, given[: 1 if frozen else 2], upstream)
    expected = torch.autograd.grad(true, wide[: 1 if frozen else 2], upstream.double())
    for one, other in zip(found, expected, strict=True):
        assert (one - other).abs().max() <= 1e-6 * other.abs().max()


def test_it_is_torchs_where_nothing_is_differentiated() -> None:
    vectors, weight = torch.randn(4, 8), torch.rand(8)
    with torch.no_grad():
        assert torch.equal(rms_norm(vectors, weight, 1e-6), F.rms_norm(vectors, (8,), weight, 1e-6))


def test_the_switch_brings_torchs_own_derivative_back() -> None:
    vectors, weight = torch.randn(4, 8, requires_grad=True), torch.rand(8)
    assert "_RMSNorm" in type(rms_norm(vectors, weight, 1e-6).grad_fn).__name__
    with torch.backends.mkldnn.flags(enabled=False):
        assert "_RMSNorm" not in type(rms_norm(vectors, weight, 1e-6).grad_fn).__name__
    halved = vectors.detach().bfloat16().requires_grad_()
    assert rms_norm(halved, weight.bfloat16(), 1e-6).dtype == torch.bfloat16
