from pathlib import Path

import pytest

from deepgen.config.train import Sharding
from tests.train.killing import Killer, outcome, step_seconds


@pytest.mark.parametrize(
    ("world_size", "sharding", "steps", "kills"),
    [
        (1, "none", 12, (False, True, False)),
        # Each save of a sharded model takes a second; perf/kill_soak.py kills such runs, and
        # those of several processes without sharding, thirty times.
        pytest.param(2, "optimizer", 4, (True,), marks=pytest.mark.slow),
    ],
)
def test_a_run_killed_at_any_moment_ends_bit_for_bit_as_the_unbroken_one(
    tmp_path: Path, world_size: int, sharding: Sharding, steps: int, kills: tuple[bool, ...]
) -> None:
    killer = Killer(steps, seed=0, world_size=world_size, sharding=sharding)
    killer.finish(tmp_path / "unbroken")
    within = 2 * step_seconds(tmp_path / "unbroken")
    killed = tmp_path / "killed"
    for saving in kills:
        killer.kill(killed, saving=saving, within_seconds=within)
    killer.finish(killed)
    assert outcome(killed, steps) == outcome(tmp_path / "unbroken", steps)
    assert [line["step"] for line in outcome(killed, steps)[1]] == list(range(4, steps + 1, 4))
