from __future__ import annotations

import json

import pytest

from deepgen.errors import TrainingError
from deepgen.rl.rewards.limits import FailureLimits, FailureWatch


def test_bad_iterations_in_a_row_end_the_run() -> None:
    watch = FailureWatch(FailureLimits(bad_iterations=3))
    for missing in (5, 5, 2, 5, 5):
        watch.add({"ocr": (missing, 8)})
    with pytest.raises(TrainingError, match=r"the reward ocr .* 3 iterations .*: busy; repair"):
        watch.add({"ocr": (5, 8)}, {"ocr": "busy"})


def test_a_full_window_above_its_fraction_ends_the_run() -> None:
    watch = FailureWatch(FailureLimits(window=4, window_fraction=0.05))
    for _ in range(3):
        watch.add({"ocr": (1, 10)})
    with pytest.raises(TrainingError, match="missing for 4 of 40 groups in the last 4 iterations"):
        watch.add({"ocr": (1, 10)})


def test_few_missing_groups_and_iterations_without_groups_do_not_end_it() -> None:
    watch = FailureWatch(FailureLimits(window=4, window_fraction=0.05))
    for iteration in range(40):
        watch.add({"ocr": (int(iteration % 4 == 0), 10), "clip": (0, 0)})


def test_a_resumed_run_counts_on() -> None:
    watch = FailureWatch()
    for _ in range(2):
        watch.add({"ocr": (8, 8)})
    resumed = FailureWatch()
    resumed.resume(json.loads(json.dumps(watch.state())))
    assert resumed.state() == watch.state()
    with pytest.raises(TrainingError):
        resumed.add({"ocr": (8, 8)})
