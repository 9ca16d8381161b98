"""How every script here measures: sides alternate, medians count, the record has the machine."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).resolve().parent / "results"

PACKAGES = ("torch", "diffusers", "transformers")


def alternate(sides: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of every repeat of each side; sides alternate, so that drift affects all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, run in sides.items():
            synchronize()
            start = time.perf_counter()
            run()
            synchronize()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def synchronize() -> None:
    """Wait for the GPU to finish, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def compare(seconds: Mapping[str, Sequence[float]], baseline: str) -> dict[str, Any]:
    """Medians of all sides, and their ratios to the baseline's."""
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    return {
        "median_seconds": {name: round(each, 4) for name, each in medians.items()},
        f"of_{baseline}": {
            name: round(each / medians[baseline], 4)
            for name, each in medians.items()
            if name != baseline
        },
        "seconds": {name: [round(one, 4) for one in each] for name, each in seconds.items()},
    }


def environment() -> dict[str, Any]:
    """Date, hardware and versions; the load shows whether anything else was running."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_before": [round(each, 2) for each in os.getloadavg()],
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }


def write(name: str, record: Mapping[str, Any]) -> None:
    """Print a record and keep it as ``perf/results/NAME.json``."""
    text = json.dumps(record, indent=2)
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(text + "\n")


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
