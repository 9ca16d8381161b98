"""Damaged inputs of every kind by the hundred thousand, with bounds on time and memory.

``python perf/fuzz.py --cases 100000`` reads so many damaged inputs of each target of
``tests/fuzzing.py``, and fails if one raises anything but a refusal, takes more than 2 s of CPU
time, or the process more than 512 MB above its start. ``--minutes`` bounds the time for each
target; what was run until then is recorded in ``perf/results/fuzz.json``.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from measure import RESULTS, environment, write

from tests.fuzzing import TARGETS, run_case

MOST_SECONDS = 2.0
MOST_MEGABYTES = 512


def main() -> int:
    """Run all cases, write the record, and say what failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=100_000, help="of each target")
    parser.add_argument("--minutes", type=float, default=60, help="at most, for each target")
    parser.add_argument(
        "--first",
        type=int,
        default=0,
        help="seed of the first case; with any but 0 the record is added to",
    )
    parser.add_argument("--targets", nargs="*", default=list(TARGETS))
    arguments = parser.parse_args()
    found = {
        name: run(name, arguments.first, arguments.cases, 60 * arguments.minutes)
        for name in arguments.targets
    }
    if arguments.first:
        found = added(json.loads((RESULTS / "fuzz.json").read_text())["targets"], found)
    bounds = {"seconds": MOST_SECONDS, "megabytes": MOST_MEGABYTES}
    write("fuzz", {"environment": environment(), "bounds": bounds, "targets": found})
    return 1 if any(each["failures"] for each in found.values()) else 0


def run(name: str, first: int, cases: int, seconds: float) -> dict[str, Any]:
    """Cases of one target, until the time is over."""
    failures: list[str] = []
    slowest, slowest_seed, done = 0.0, first, 0
    with tempfile.TemporaryDirectory() as folder:
        # Loads libraries, and makes the inputs that are damaged.
        run_case(name, -1, Path(folder))
        start, deadline = peak(), time.monotonic() + seconds
        for seed in range(first, first + cases):
            if time.monotonic() > deadline:
                break
            before = time.process_time()
            problem = run_case(name, seed, Path(folder))
            taken = time.process_time() - before
            done += 1
            if taken > slowest:
                slowest, slowest_seed = taken, seed
            if taken > MOST_SECONDS:
                problem = problem or f"{taken:.1f} s"
            if peak() - start > MOST_MEGABYTES:
                problem = problem or f"{peak() - start} MB above the start"
                start = peak()
            if problem is not None:
                failures.append(f"seed {seed}: {problem}")
                print(name, failures[-1], flush=True)
        grown = peak() - start
    print(f"{name}: {done} cases, slowest {slowest:.2f} s, {grown} MB more", flush=True)
    return {
        "cases": done,
        "slowest_seconds": round(slowest, 3),
        "slowest_seed": slowest_seed,
        "megabytes_above_start": grown,
        "failures": failures[:20],
        "failure_count": len(failures),
    }


def added(earlier: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The record of earlier cases with those of later seeds."""
    both = dict(earlier)
    for name, each in new.items():
        old = earlier.get(name)
        both[name] = (
            each
            if old is None
            else {
                "cases": old["cases"] + each["cases"],
                "slowest_seconds": max(old["slowest_seconds"], each["slowest_seconds"]),
                "slowest_seed": max(old, each, key=lambda one: one["slowest_seconds"])[
                    "slowest_seed"
                ],
                "megabytes_above_start": max(
                    old["megabytes_above_start"], each["megabytes_above_start"]
                ),
                "failures": [*old["failures"], *each["failures"]][:20],
                "failure_count": old["failure_count"] + each["failure_count"],
            }
        )
    return both


def peak() -> int:
    """The most memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


if __name__ == "__main__":
    sys.exit(main())
