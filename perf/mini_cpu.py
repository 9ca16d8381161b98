"""Latency of the embedded model on CPU: imports, loading, an image, an edit.

``python perf/mini_cpu.py``: every run is a process of its own, on two threads; medians of five; the
result is in ``perf/results/mini_cpu.json``. The targets are 3 s for loading and an image of 20
steps, after imports, and 1.5 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

from measure import environment, write

RUNS = 5
TARGETS = {"load_and_image_seconds": 3.0, "peak_gb": 1.5}


def measure_once() -> dict[str, float]:
    """Import, load, generate and edit in this process."""
    start = time.perf_counter()
    from deepgen.pipeline.pipeline import DeepGenPipeline

    imported = time.perf_counter()
    pipe = DeepGenPipeline.from_pretrained("mini")
    pipe.set_progress_bar_config(disable=True)
    loaded = time.perf_counter()
    image = pipe("a cat on a blue background", seed=7, num_inference_steps=20).images[0]
    generated = time.perf_counter()
    pipe("change the background to pink", image=image, seed=7, num_inference_steps=20)
    edited = time.perf_counter()
    return {
        "import_seconds": imported - start,
        "load_seconds": loaded - imported,
        "image_seconds": generated - loaded,
        "load_and_image_seconds": generated - imported,
        "edit_seconds": edited - generated,
        # Linux counts in KiB.
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
    }


def main() -> None:
    """Take medians over fresh processes, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--once", action="store_true", help="measure in this process and print")
    if parser.parse_args().once:
        print(json.dumps(measure_once()))
        return
    threads = {**os.environ, "OMP_NUM_THREADS": "2"}
    runs = []
    for _ in range(RUNS):
        command = [sys.executable, __file__, "--once"]
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=threads)
        runs.append(json.loads(run.stdout))
    medians = {name: round(statistics.median(run[name] for run in runs), 3) for name in runs[0]}
    write("mini_cpu", {"environment": environment(), "targets": TARGETS, "medians": medians})


if __name__ == "__main__":
    main()
