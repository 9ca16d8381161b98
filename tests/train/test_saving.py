"""Tests of saving in the background."""

import torch

from deepgen.train.saving import Saving


def test_every_save_copies_the_weights_as_they_are_then() -> None:
    saving, weight = Saving(), torch.zeros(3)
    for step in range(3):
        weight.fill_(step)
        copies = saving.copied({"model": {"weight": weight}})
        weight.fill_(-1)
        assert copies["model"]["weight"].tolist() == [step] * 3
