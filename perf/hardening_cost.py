"""What the checks of untrusted files cost: the start of ``generate``, and importing 1,000 images.

``python perf/hardening_cost.py --before ../before/src`` runs both with the package of an earlier
commit (``git worktree add ../before COMMIT``) and with this one, alternately, and compares the CPU
time of the processes, which other work on the machine disturbs less than the time on the clock.
The record is ``perf/results/hardening_cost.json``; the target is 2 %. ``change`` is the median over
the repeats of how much longer the second run of a pair took, with an interval of 95 % from the
order of the pairs (as in a sign test), which asks nothing of how times are distributed.
"""

from __future__ import annotations

import argparse
import math
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from measure import environment, write
from PIL import Image

HERE = Path(__file__).resolve().parents[1] / "src"
TARGET = 0.02

LOADING = """
import time
from deepgen.checkpoint.finding import find_model
from deepgen.checkpoint.folder import load_folder
seconds = []
for _ in range(12):
    start = time.process_time()
    load_folder(find_model("mini").path)
    seconds.append(time.process_time() - start)
print(min(seconds))
"""
"""The part of the start of generate that reads files, alone: on a machine that is doing other
things the whole start differs by 20 % from run to run, which hides some milliseconds."""

SIDE = 384


def main() -> None:
    """Run all alternately, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path, required=True, help="src of the earlier commit")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--images", type=int, default=1000)
    arguments = parser.parse_args()
    sides = {"before": arguments.before.resolve(), "after": HERE}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_images(folder / "images", arguments.images)
        commands = {
            "generate": ("generate", "a red cube", "--steps", "1", "--seed", "1", "--overwrite"),
            "import": ("data", "import", "folder", str(folder / "images"), str(folder / "set")),
        }
        output = {"generate": ("-o", str(folder / "image.png")), "import": ("--name", "mine")}
        found: dict[str, dict[str, list[float]]] = {each: {} for each in (*commands, "loading")}
        # One run that does not count fills the caches of the system.
        for number in range(arguments.repeats + 1):
            for side, source in sides.items():
                if number:
                    found["loading"].setdefault(side, []).append(round(loading(source), 4))
            # Which side is first alternates as well.
            ordered = list(sides.items())[:: -1 if number % 2 else 1]
            for what, command in commands.items():
                for side, source in ordered:
                    shutil.rmtree(folder / "set", ignore_errors=True)
                    seconds = run(source, (*command, *output[what]))
                    if number:
                        found[what].setdefault(side, []).append(round(seconds, 4))
    record = {"environment": environment(), "target": TARGET, "images": arguments.images}
    results = {what: compared(each) for what, each in found.items()}
    # What loading takes longer, as a part of the whole start: the figure that the target is for.
    more = results["loading"]["fastest"]["after"] - results["loading"]["fastest"]["before"]
    share = round(more / results["generate"]["fastest"]["before"], 4)
    write("hardening_cost", record | results | {"loading_as_part_of_generate": share})


def make_images(folder: Path, count: int) -> None:
    """JPEGs of coarse noise, each with a caption."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        coarse = rng.integers(0, 256, (SIDE // 8, SIDE // 8, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        image.save(folder / f"{number:04d}.jpg", quality=90)
        (folder / f"{number:04d}.txt").write_text(f"noise, number {number}")


def run(source: Path, arguments: tuple[str, ...]) -> float:
    """CPU seconds of one command with a package."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environ = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    command = (sys.executable, "-m", "deepgen", *arguments)
    subprocess.run(command, env=environ, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def loading(source: Path) -> float:
    """CPU seconds of checking and loading the mini, the fastest of some repeats in one process."""
    environ = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    command = (sys.executable, "-c", LOADING)
    ran = subprocess.run(command, env=environ, check=True, capture_output=True, text=True)
    return float(ran.stdout)


def compared(seconds: dict[str, list[float]]) -> dict[str, Any]:
    """Both sides' CPU seconds, and by how much pairs, medians and the fastest runs differ."""
    pairs = zip(seconds["before"], seconds["after"], strict=True)
    changes = sorted(after / before - 1 for before, after in pairs)
    low, high = interval(changes)
    median = {side: statistics.median(each) for side, each in seconds.items()}
    fastest = {side: min(each) for side, each in seconds.items()}
    return {
        "cpu_seconds": seconds,
        "median": median,
        "fastest": fastest,
        "change": round(statistics.median(changes), 4),
        "interval": [round(low, 4), round(high, 4)],
        "change_of_median": round(median["after"] / median["before"] - 1, 4),
        "change_of_fastest": round(fastest["after"] / fastest["before"] - 1, 4),
    }


def interval(ordered: Sequence[float]) -> tuple[float, float]:
    """Limits of the median that hold in 95 % of cases; the extremes where there are too few."""
    count = len(ordered)
    rank, outside = 0, 2 / 2**count
    while outside + 2 * math.comb(count, rank + 1) / 2**count <= 0.05:
        rank += 1
        outside += 2 * math.comb(count, rank) / 2**count
    return ordered[rank], ordered[count - 1 - rank]


if __name__ == "__main__":
    main()
