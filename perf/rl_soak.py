"""Reinforcement learning killed twenty times, and on several processes: are results the same?

``PYTHONPATH=. python perf/rl_soak.py`` kills a small run at random moments (while it samples, waits
for rewards, updates or saves) and compares it with an undisturbed one, to the bit; then it trains
three updates on 1, 2 and 4 processes and compares advantages and weights. The record is
``perf/results/rl_soak.json``.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from measure import environment, write

from deepgen.train.parallel.distributed import SINGLE_PROCESS
from tests.rl.test_processes import RlKiller, learn, weights_in
from tests.train.killing import outcome, step_seconds
from tests.train.parallel.together import Together


def killed(folder: Path, kills: int, seed: int) -> bool:
    """Whether a run that was killed so often equals the undisturbed one."""
    steps = 4 * kills
    killer = RlKiller(steps, seed, timeout_seconds=3600)
    killer.finish(folder / "unbroken")
    within = 1.5 * step_seconds(folder / "unbroken")
    for number in range(kills):
        killer.kill(folder / "killed", saving=number % 3 == 1, within_seconds=within)
    killer.finish(folder / "killed")
    return outcome(folder / "killed", steps)[0] == outcome(folder / "unbroken", steps)[0]


def differences(folder: Path, world_size: int) -> dict[str, float]:
    """Largest differences of advantages and weights to those of a single process."""
    own, one = folder / str(world_size), folder / "1"
    own.mkdir()
    codes = Together(learn, world_size, str(own), timeout_seconds=3600).exit_codes()
    assert codes == [0] * world_size
    advantages = torch.load(own / "advantages.pt") - torch.load(one / "advantages.pt")
    mine, expected = weights_in(own), weights_in(one)
    weights = max(float((mine[name] - expected[name]).abs().max()) for name in expected)
    return {"advantages": float(advantages.abs().max()), "weights": weights}


def main() -> None:
    """Kill, compare, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "1").mkdir()
        learn(SINGLE_PROCESS, str(folder / "1"))
        found = {str(count): differences(folder, count) for count in (2, 4)}
        print(found, flush=True)
        same = killed(folder, arguments.kills, arguments.seed)
    record = {"kills": arguments.kills, "same": same, "differences_to_one_process": found}
    write("rl_soak", {**record, **environment()})


if __name__ == "__main__":
    main()
