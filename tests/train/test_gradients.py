import pytest
import torch
from torch import nn

from deepgen.train.gradients import clip_gradients


def parameters() -> dict[str, nn.Parameter]:
    torch.manual_seed(0)
    found = {name: nn.Parameter(torch.zeros(3, 2)) for name in ("a.x", "a.y", "b", "c", "unused")}
    for name, value in found.items():
        if name != "unused":
            value.grad = torch.randn(3, 2)
    return found


def norm(*values: nn.Parameter) -> float:
    gradients = [each.grad for each in values if each.grad is not None]
    return float(torch.stack(gradients).norm())


def test_norms_of_parts_are_those_before_clipping_and_make_up_the_whole() -> None:
    found = parameters()
    expected = norm(*found.values()), norm(found["a.x"], found["a.y"]), norm(found["b"])
    total, parts = clip_gradients(found, {"a.x": "a", "a.y": "a", "b": "b", "unused": "u"}, 0.5)
    assert total.item() == pytest.approx(expected[0])
    assert set(parts) == {"a", "b"}
    assert parts["a"].item() == pytest.approx(expected[1])
    assert parts["b"].item() == pytest.approx(expected[2])
    assert norm(*found.values()) == pytest.approx(0.5, rel=1e-4)


def test_small_gradients_stay_as_they_are() -> None:
    found = parameters()
    before = [each.grad.clone() for each in found.values() if each.grad is not None]
    clip_gradients(found, {}, 1e3)
    after = [each.grad for each in found.values() if each.grad is not None]
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))


def test_without_any_gradient_the_norm_is_zero() -> None:
    total, parts = clip_gradients({"a": nn.Parameter(torch.ones(2))}, {"a": "a"}, 1.0)
    assert total.item() == 0 and parts == {}
