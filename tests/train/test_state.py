import json
import random

import numpy as np
import torch
from torch import nn

from deepgen.train.state import frozen_digest, random_states, restore_random_states


def draw() -> tuple[float, float, float, float]:
    return random.random(), random.gauss(0, 1), float(np.random.randn()), torch.rand(1).item()


def test_random_states_come_back_from_json() -> None:
    draw()
    states = json.loads(json.dumps(random_states()))
    expected = [draw() for _ in range(3)]
    restore_random_states(states)
    assert [draw() for _ in range(3)] == expected


def test_the_digest_sees_every_frozen_value_and_no_trained_one() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    before = frozen_digest(model, {"0.weight"})
    model.get_parameter("0.weight").data += 1
    assert frozen_digest(model, {"0.weight"}) == before
    model.get_buffer("1.running_mean")[2] += 1e-6
    assert frozen_digest(model, {"0.weight"}) != before
