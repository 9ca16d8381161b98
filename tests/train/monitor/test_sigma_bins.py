from collections import Counter

import torch

from deepgen.config.model import ScheduleConfig
from deepgen.flow.schedule import training_sigmas
from deepgen.train.monitor.sigma_bins import SigmaBins


def test_every_band_has_a_tenth_of_the_levels_and_says_which() -> None:
    sigmas = training_sigmas(ScheduleConfig())
    bins = SigmaBins(sigmas)
    members: dict[str, list[float]] = {}
    for sigma in sigmas.tolist():
        members.setdefault(bins.name(sigma), []).append(sigma)
    assert [len(each) for each in members.values()] == [100] * 10
    for name, own in members.items():
        assert name == f"sigma_{min(own):.3f}-{max(own):.3f}"
    # The shift of 3 puts the middle of the levels at 3/4.
    assert "sigma_0.668-0.750" in members


def test_few_levels_have_a_band_each() -> None:
    names = [SigmaBins(torch.tensor([1.0, 0.5])).name(each) for each in (1.0, 0.5)]
    assert Counter(names) == {"sigma_1.000-1.000": 1, "sigma_0.500-0.500": 1}
