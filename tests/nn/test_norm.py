"""The norm with a derivative of its own is torch's, and so are its gradients."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from deepgen.nn.norm import rms_norm

OWN = "_RMSNorm"


def made_by(result: Tensor) -> str:
    return type(result.grad_fn).__name__


@pytest.mark.parametrize("learning", [(True, False), (False, True), (True, True)])
def test_norm_and_gradients_are_those_of_the_definition(learning: tuple[bool, bool]) -> None:
    torch.manual_seed(0)
    # Heads as they come and gradients as they arrive, not contiguous; one head is so small that
    # epsilon counts.
    vectors = torch.randn(2, 9, 3, 8)
    vectors[0, 0, 0] *= 1e-3
    weight, upstream = torch.rand(8) + 0.5, torch.randn(2, 9, 3, 8)[:, 4:]

    def inputs(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        return (
            vectors.to(dtype)[:, :5].detach().requires_grad_(learning[0]),
            weight.to(dtype, copy=True).requires_grad_(learning[1]),
        )

    given, wide = inputs(torch.float32), inputs(torch.float64)
    mine = rms_norm(*given, 1e-6)
    assert OWN in made_by(mine)
    true = wide[0] / (wide[0].square().mean(dim=-1, keepdim=True) + 1e-6).sqrt() * wide[1]
    assert (mine - true).abs().max() <= 1e-6 * true.abs().max()

    found = torch.autograd.grad(mine, [each for each in given if each.requires_grad], upstream)
    expected = torch.autograd.grad(
        true, [each for each in wide if each.requires_grad], upstream.double()
    )
    for one, other in zip(found, expected, strict=True):
        assert (one - other).abs().max() <= 1e-6 * other.abs().max()


def test_it_is_torchs_where_nothing_is_differentiated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepgen.nn.norm._differentiable", None)
    vectors, weight = torch.randn(4, 8), torch.rand(8)
    with torch.no_grad():
        assert torch.equal(rms_norm(vectors, weight, 1e-6), F.rms_norm(vectors, (8,), weight, 1e-6))


def test_other_precisions_and_a_switch_are_left_to_torch() -> None:
    vectors, weight = torch.randn(4, 8, requires_grad=True), torch.rand(8)
    assert OWN in made_by(rms_norm(vectors, weight, 1e-6))
    with torch.backends.mkldnn.flags(enabled=False):
        assert OWN not in made_by(rms_norm(vectors, weight, 1e-6))
    halved = vectors.detach().bfloat16().requires_grad_()
    assert OWN not in made_by(rms_norm(halved, weight.bfloat16(), 1e-6))


def test_autocast_computes_it_in_float32() -> None:
    halved, weight = torch.randn(4, 8).bfloat16().requires_grad_(), torch.rand(8)
    with torch.autocast("cpu", torch.bfloat16):
        mine = rms_norm(halved, weight, 1e-6)
    assert torch.equal(mine, rms_norm(halved.float(), weight, 1e-6))


def test_only_input_weight_and_scale_are_kept_for_the_backward_pass() -> None:
    vectors, weight = torch.randn(6, 8, requires_grad=True), torch.rand(8)
    kept: list[tuple[int, ...]] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tuple(tensor.shape))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        rms_norm(vectors, weight, 1e-6)
    assert kept == [(6, 8), (8,), (6, 1)]
