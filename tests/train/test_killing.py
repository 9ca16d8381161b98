from pathlib import Path

import pytest

from deepgen.config.train import Sharding
from tests.train.killing import Killer, outcome, step_seconds

STEPS = 12


@pytest.mark.parametrize(("world_size", "sharding"), [(1, "none"), (2, "none"), (2, "optimizer")])
def test_a_run_killed_at_any_moment_ends_bit_for_bit_as_the_unbroken_one(
    tmp_path: Path, world_size: int, sharding: Sharding
) -> None:
    killer = Killer(STEPS, seed=0, world_size=world_size, sharding=sharding)
    killer.finish(tmp_path / "unbroken")
    within = 2 * step_seconds(tmp_path / "unbroken")
    killed = tmp_path / "killed"
    for saving in (False, True, False):
        killer.kill(killed, saving=saving, within_seconds=within)
    killer.finish(killed)
    assert outcome(killed, STEPS) == outcome(tmp_path / "unbroken", STEPS)
    assert [line["step"] for line in outcome(killed, STEPS)[1]] == [4, 8, 12]
