"""Damaged inputs of every kind by the hundred thousand, with bounds on time and memory.

``python perf/fuzz.py --cases 100000`` reads so many damaged inputs of each target of
``tests/fuzzing.py``, and fails if one raises anything but a refusal, takes more than 2 s of CPU
time, or the process more than 512 MB above its start, or ends it. ``--minutes`` bounds the time
for each target; what was run until then is recorded in ``perf/results/fuzz.json``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
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

EMPTY = {"slowest_seconds": 0.0, "slowest_seed": 0, "megabytes_above_start": 0}
"""What is recorded of a target whose process did not live to tell."""


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
    record = RESULTS / "fuzz.json"
    bounds = {"seconds": MOST_SECONDS, "megabytes": MOST_MEGABYTES}
    failed = False
    for name in arguments.targets:
        found = alone(name, arguments.first, arguments.cases, 60 * arguments.minutes)
        failed |= bool(found["failures"])
        before = json.loads(record.read_text())["targets"] if record.exists() else {}
        both = added(before, {name: found}) if arguments.first else {**before, name: found}
        write("fuzz", {"environment": environment(), "bounds": bounds, "targets": both})
    return int(failed)


def alone(name: str, first: int, cases: int, seconds: float) -> dict[str, Any]:
    """Cases in a process of their own, which a library may end."""
    processes = multiprocessing.get_context("fork")
    receiving, sending = processes.Pipe(duplex=False)
    seed = processes.Value("q", first)

    def work() -> None:
        sending.send(run(name, first, cases, seconds, seed))

    process = processes.Process(target=work)
    process.start()
    sending.close()
    try:
        found: dict[str, Any] = receiving.recv()
    except EOFError:
        process.join()
        problem = f"seed {seed.value}: the process ended with {process.exitcode}"
        print(name, problem, flush=True)
        done = seed.value - first + 1
        return {**EMPTY, "cases": done, "failures": [problem], "failure_count": 1}
    process.join()
    return found


def run(name: str, first: int, cases: int, seconds: float, now: Any) -> dict[str, Any]:
    """Cases of one target, until the time is over; ``now`` is told each seed."""
    failures: list[str] = []
    slowest, slowest_seed, done = 0.0, first, 0
    with tempfile.TemporaryDirectory() as folder:
        # Loads libraries, and makes the inputs that are damaged.
        run_case(name, -1, Path(folder))
        start, deadline = peak(), time.monotonic() + seconds
        for seed in range(first, first + cases):
            if time.monotonic() > deadline:
                break
            now.value = seed
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
