import torch
from torch import nn

from deepgen.train.state import frozen_digest


def test_the_digest_sees_every_frozen_value_and_no_trained_one() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    before = frozen_digest(model, {"0.weight"})
    model.get_parameter("0.weight").data += 1
    assert frozen_digest(model, {"0.weight"}) == before
    model.get_buffer("1.running_mean")[2] += 1e-6
    assert frozen_digest(model, {"0.weight"}) != before
