"""From the start of the process to a saved image, with the mini; on a CPU.

``python perf/startup.py``: ``deepgen generate`` is started ten times, alternately with a process
that only imports torch; the result is in ``perf/results/startup.json``. The targets are 3 s until
the image is saved and 0.5 s until the first character on the terminal, on two quiet cores. On a
machine that is doing other things, compare ``cpu_seconds``, and the ratio to the import of torch.
"""

from __future__ import annotations

import argparse
import os
import pty
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import environment, write

TARGETS = {"saved": 3.0, "first_character": 0.5}
TORCH = ("-c", "import torch")


def main() -> None:
    """Start both processes alternately, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--python", default=sys.executable, help="interpreter that has deepgen")
    arguments = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {"generate": [], "import torch": []}
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "image.png"
        generate = ("-m", "deepgen", "generate", "a red cube", "--seed", "1", "-o", str(image))
        for _ in range(arguments.repeats):
            found["import torch"].append(run((arguments.python, *TORCH), None))
            found["generate"].append(run((arguments.python, *generate), image))
            image.unlink()
    medians = {
        name: {key: round(statistics.median(each[key] for each in runs), 3) for key in runs[0]}
        for name, runs in found.items()
    }
    cpu = [statistics.median(each["cpu_seconds"] for each in runs) for runs in found.values()]
    record = {
        "command": "deepgen generate, embedded model, 20 steps, process start to saved image",
        "targets_on_quiet_cores": TARGETS,
        "median": medians,
        "cpu_of_import_torch": round(cpu[0] / cpu[1], 2),
        "runs": found,
        "environment": environment(),
    }
    write("startup", record)


def run(command: tuple[str, ...], image: Path | None) -> dict[str, float]:
    """Start a process on a terminal of its own; seconds until what it is started for."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ours, theirs = pty.openpty()
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    seconds: dict[str, float] = {}
    if image is not None:
        os.read(ours, 1)
        seconds["first_character"] = time.perf_counter() - start
        assert process.stdout is not None
        # The path is printed once the image has its final name.
        process.stdout.readline()
        seconds["saved"] = time.perf_counter() - start
        assert image.is_file()
    _drain(ours)
    process.wait()
    os.close(ours)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {**seconds, "exit": time.perf_counter() - start, "cpu_seconds": cpu}


def _drain(terminal: int) -> None:
    """Read what is left, so that the process never waits for us."""
    try:
        while os.read(terminal, 4096):
            pass
    except OSError:
        # The end of a terminal whose other side is closed.
        return


if __name__ == "__main__":
    main()
