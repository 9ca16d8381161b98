from __future__ import annotations

import torch
from torch import nn

from deepgen.nn.offloading import on_device

# It keeps no values, so what is there afterwards was not copied back.
DEVICE = torch.device("meta")


def module() -> nn.Sequential:
    made = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    made.append(made[0])
    return made


def test_weights_are_on_the_device_and_then_the_same_tensors_again() -> None:
    offloaded = module()
    before = {name: value.data_ptr() for name, value in offloaded.state_dict().items()}
    parameters = list(offloaded.parameters())
    with torch.inference_mode(), on_device(offloaded, DEVICE):
        assert all(value.is_meta for value in offloaded.state_dict().values())
    assert {name: value.data_ptr() for name, value in offloaded.state_dict().items()} == before
    assert all(one is other for one, other in zip(offloaded.parameters(), parameters, strict=True))


def test_an_error_in_between_changes_nothing() -> None:
    offloaded = module()
    try:
        with on_device(offloaded, DEVICE):
            raise ValueError
    except ValueError:
        assert not any(value.is_meta for value in offloaded.state_dict().values())


def test_what_was_changed_or_added_in_between_is_kept() -> None:
    offloaded = module()
    weight = offloaded[0].weight.detach().clone()
    # The body computes on the CPU, where changes can be seen.
    with on_device(offloaded, torch.device("cpu")), torch.no_grad():
        offloaded[0].weight.add_(1)
        offloaded[1].running_mean.add_(2)
        offloaded.append(nn.Linear(3, 1))
    assert torch.equal(offloaded[0].weight, weight + 1)
    assert torch.equal(offloaded[1].running_mean, torch.full((3,), 2.0))
    assert len(offloaded) == 4
