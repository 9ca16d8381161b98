"""An import killed at ten random moments, by 1, 2 and 4 processes and by Ray: is it the same?

``PYTHONPATH=. python perf/data_kill.py``; the record is ``perf/results/data_kill.json``. With
``--ray`` the last import, unkilled, runs on Ray (``pip install 'deepgen-image[ray]'``).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import environment, write

from tests.data.faulty_set import encoded
from tests.data.importers.published_sets import tar

SHARDS, SAMPLES = 6, 250


def main() -> None:
    """Import undisturbed, then killed again and again, and compare all files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ray", action="store_true")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    outcomes: dict[str, str] = {}
    kills: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_source(root / "source")
        start = time.perf_counter()
        outcomes["threads"] = digest(finished(root / "source", root / "whole"))
        seconds = time.perf_counter() - start
        for workers in (1, 2, 4):
            name = f"{workers} processes, killed"
            target = root / f"killed{workers}"
            share = arguments.kills // 3 + (workers == 1) * (arguments.kills % 3)
            options = ["--workers", str(workers)]
            kills[name] = sum(
                killed(root / "source", target, options, rng.uniform(0.3, 1) * seconds)
                for _ in range(share)
            )
            outcomes[name] = digest(finished(root / "source", target, *options))
            shutil.rmtree(target)
        if arguments.ray:
            outcomes["ray"] = digest(finished(root / "source", root / "ray", "--ray"))
        shutil.copytree(root / "source", root / "copy", copy_function=shutil.copy2)
        outcomes["another day"] = digest(finished(root / "copy", root / "later"))
    write(
        "data_kill",
        {
            "environment": environment(),
            "samples": SHARDS * SAMPLES,
            "seconds_undisturbed": round(seconds, 1),
            "kills_before_the_end": kills,
            "digests": outcomes,
            "all_equal": len(set(outcomes.values())) == 1,
        },
    )


def make_source(root: Path) -> None:
    """WebDataset tars of distinct images, some of them faulty."""
    number = 0
    for shard in range(SHARDS):
        files: dict[str, bytes | str] = {}
        for _ in range(SAMPLES):
            content = encoded(number, (256, 256))
            files[f"{number:06d}.jpg"] = content[:-300] if number % 97 == 0 else content
            files[f"{number:06d}.txt"] = f"caption {number}"
            number += 1
        tar(root / f"{shard:05d}.tar", files, compressed=shard == 1)


def command(source: Path, target: Path, *options: str) -> list[str]:
    """The import as a user starts it."""
    start = [sys.executable, "-m", "deepgen", "data", "import", "webdataset"]
    return [*start, str(source), str(target), "--name", "set", "--shard-mib", "1", *options]


def finished(source: Path, target: Path, *options: str) -> Path:
    """The folder of an import that was allowed to end."""
    subprocess.run(command(source, target, *options), check=True, capture_output=True)
    return target


def killed(source: Path, target: Path, options: list[str], after: float) -> bool:
    """Start an import and kill all its processes; whether it was still running."""
    process = subprocess.Popen(
        command(source, target, *options),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    return False


def digest(folder: Path) -> str:
    """Hash of all files of a data set and of their names."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found.update(f"{path.relative_to(folder)}\0".encode())
            found.update(path.read_bytes())
    return found.hexdigest()[:16]


if __name__ == "__main__":
    main()
