"""A training run killed thirty times against an undisturbed one: are they equal to the bit?

``PYTHONPATH=. python perf/kill_soak.py``, with ``--processes 2`` for two processes, and with
``--sharding optimizer`` for sharded optimizer states; the results are in
``perf/results/kill_soak.json``, ``kill_soak_2.json`` and ``kill_soak_2_optimizer.json``. Every
third kill waits until a checkpoint is being written; the others come at random times, most of
them during a save. ``--seconds`` limits the time; the record has the number of kills.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from pathlib import Path

from measure import environment, write

from tests.train.killing import Killer, outcome, step_seconds


def main() -> None:
    """Run, kill, resume, compare, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--sharding", choices=("none", "optimizer", "full"), default="none")
    parser.add_argument("--seconds", type=float, default=math.inf)
    arguments = parser.parse_args()
    # There are one to three steps between two kills.
    steps = 4 * arguments.kills
    killer = Killer(
        steps,
        arguments.seed,
        arguments.processes,
        arguments.sharding,
        timeout_seconds=3600,
    )
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        unbroken, killed = Path(folder, "unbroken"), Path(folder, "killed")
        killer.finish(unbroken)
        within = 2 * step_seconds(unbroken)
        half_written: list[bool] = []
        while len(half_written) < arguments.kills:
            if time.perf_counter() - start > arguments.seconds:
                break
            saving = len(half_written) % 3 == 0
            half_written.append(killer.kill(killed, saving=saving, within_seconds=within))
        killer.finish(killed)
        equal = outcome(killed, steps) == outcome(unbroken, steps)
    name = "kill_soak" if arguments.processes == 1 else f"kill_soak_{arguments.processes}"
    write(
        name if arguments.sharding == "none" else f"{name}_{arguments.sharding}",
        {
            "environment": environment(),
            "processes": arguments.processes,
            "sharding": arguments.sharding,
            "kills": len(half_written),
            "kills_wanted": arguments.kills,
            "kills_while_saving": sum(half_written),
            "steps": steps,
            "seconds": round(time.perf_counter() - start, 1),
            "equal_to_the_last_bit": equal,
        },
    )


if __name__ == "__main__":
    main()
