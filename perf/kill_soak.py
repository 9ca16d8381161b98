"""A training run killed thirty times against one that never was: are they equal to the last bit?

``PYTHONPATH=. python perf/kill_soak.py``, and with ``--processes 2`` for a run of two; the results
are in ``perf/results/kill_soak.json`` and ``kill_soak_2.json``. Every third kill waits until a
checkpoint is being written; the others come at random moments, which are within a save more often
than not.
"""

from __future__ import annotations

import argparse
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
    arguments = parser.parse_args()
    # A run gets on by one to three steps between two kills.
    steps = 4 * arguments.kills
    killer = Killer(steps, arguments.seed, arguments.processes)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        unbroken, killed = Path(name, "unbroken"), Path(name, "killed")
        killer.finish(unbroken)
        within = 2 * step_seconds(unbroken)
        half_written = [
            killer.kill(killed, saving=index % 3 == 0, within_seconds=within)
            for index in range(arguments.kills)
        ]
        killer.finish(killed)
        equal = outcome(killed, steps) == outcome(unbroken, steps)
    write(
        "kill_soak" if arguments.processes == 1 else f"kill_soak_{arguments.processes}",
        {
            "environment": environment(),
            "processes": arguments.processes,
            "kills": arguments.kills,
            "kills_while_saving": sum(half_written),
            "steps": steps,
            "seconds": round(time.perf_counter() - start, 1),
            "equal_to_the_last_bit": equal,
        },
    )


if __name__ == "__main__":
    main()
