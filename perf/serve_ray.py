"""Ray Serve with two replicas on this machine, one of which is killed under load.

``python perf/serve_ray.py`` (extras ``serve`` and ``ray``) starts ``deepgen serve --ray 2``, lets
clients ask for images that were also made by the pipeline alone, kills one replica with SIGKILL
while they do, and waits until there are two again. Then ``deepgen generate --ray 2`` makes the
images of ``deepgen generate``, and ``deepgen eval generate --ray 2`` the run of one process. The
result is ``perf/results/serve_ray.json``.
"""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from measure import environment, write
from PIL import Image

from deepgen.pipeline.pipeline import DeepGenPipeline

PORT = 8765
CLIENTS = 6
SEEDS = 8
PROMPT = "a red apple"
STEPS = 10
WORKER = "deepgen.serve.worker"


def processes(title: str) -> list[int]:
    """Processes whose command line has a text."""
    found = []
    for each in Path("/proc").iterdir():
        try:
            if each.name.isdecimal() and title in (each / "cmdline").read_text(errors="replace"):
                found.append(int(each.name))
        except OSError:
            continue
    return found


def replicas() -> set[int]:
    """Processes that have an engine's."""
    found = set()
    for each in processes(WORKER):
        try:
            status = Path(f"/proc/{each}/status").read_text()
        except OSError:
            continue
        (line,) = (line for line in status.splitlines() if line.startswith("PPid:"))
        found.add(int(line.split()[1]))
    return found - {1}


def wait(condition: Callable[[], bool], seconds: float = 300.0) -> float:
    """Until something holds; how long it took."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > seconds:
            raise TimeoutError
        time.sleep(0.2)
    return time.monotonic() - started


class Visits:
    """Requests of several clients, and what came of them.

    Args:
        url: Of the server.
        expected: Images by seed.
    """

    def __init__(self, url: str, expected: list[Image.Image]) -> None:
        self.url, self.expected = url, expected
        self.end = threading.Event()
        self.ends: Counter[str] = Counter()
        self.repeated = 0
        self.largest_difference = 0
        self.lock = threading.Lock()

    def visit(self, number: int) -> None:
        """Ask again and again; what fails is repeated until it is made."""
        seed = number
        with httpx2.Client(timeout=120) as client:
            while not self.end.is_set():
                seed = (seed + 1) % SEEDS
                while (found := self.ask(client, seed)) != "image":
                    with self.lock:
                        self.ends[found] += 1
                        self.repeated += 1
                    time.sleep(0.5)
                with self.lock:
                    self.ends["image"] += 1

    def ask(self, client: httpx2.Client, seed: int) -> str:
        """One request."""
        values: dict[str, Any] = {"prompt": PROMPT, "seed": seed, "steps": STEPS}
        try:
            found = client.post(f"{self.url}/v1/images/generations", json=values)
        except httpx2.HTTPError as error:
            return type(error).__name__
        if found.status_code != 200:
            return f"status {found.status_code}"
        data = base64.b64decode(found.json()["data"][0]["b64_json"])
        with Image.open(BytesIO(data)) as image:
            difference = np.abs(np.asarray(image, np.int16) - np.asarray(self.expected[seed]))
        with self.lock:
            self.largest_difference = max(self.largest_difference, int(difference.max()))
        return "image"


def served(url: str) -> dict[str, Any]:
    """Load, a kill, and what came of it."""
    pipe = DeepGenPipeline.from_pretrained("mini", device="cpu")
    pipe.set_progress_bar_config(disable=True)
    made = [pipe(PROMPT, seed=seed, num_inference_steps=STEPS) for seed in range(SEEDS)]
    wait(lambda: len(replicas()) == 2)

    def is_ready() -> bool:
        found = [httpx2.get(f"{url}/readyz", timeout=60).status_code for _ in range(10)]
        return found == [200] * 10

    wait(is_ready)
    visits = Visits(url, [each.images[0] for each in made])
    with ThreadPoolExecutor(CLIENTS) as pool:
        asked = [pool.submit(visits.visit, number) for number in range(CLIENTS)]
        wait(lambda: visits.ends["image"] >= 2 * CLIENTS)
        running = replicas()
        killed = min(running)
        os.kill(killed, signal.SIGKILL)
        seconds = wait(lambda: len(replicas() - {killed}) == 2)
        before = visits.ends["image"]
        wait(lambda: visits.ends["image"] >= before + 2 * CLIENTS)
        visits.end.set()
        for each in asked:
            each.result()
    return {
        "replicas": len(running),
        "clients": CLIENTS,
        "ends": dict(visits.ends),
        "repeated by clients": visits.repeated,
        "seconds until two had an engine again": round(seconds, 1),
        "largest difference from one process, of 255": visits.largest_difference,
    }


def generated(folder: Path) -> dict[str, Any]:
    """Whether the images of several processes are those of one."""
    own = ["generate", PROMPT, "--num-images", "4", "--seed", "1", "--steps", str(STEPS)]
    return compared(folder / "generate", own, "{i}.png")


def evaluated(folder: Path) -> dict[str, Any]:
    """The same of the run of a benchmark."""
    return compared(folder / "eval", ["eval", "generate", "minibench", "--limit", "4"], "run")


def compared(folder: Path, command: list[str], output: str) -> dict[str, Any]:
    """The files of a command, and of the same with ``--ray 2``."""
    start = [sys.executable, "-m", "deepgen", *command, "--device", "cpu"]
    for name, more in (("one", []), ("two", ["--ray", "2"])):
        subprocess.run([*start, "-o", str(folder / name / output), *more], check=True)
    differences, equal = [], 0
    for path in sorted((folder / "one").rglob("*.png")):
        paths = [folder / name / path.relative_to(folder / "one") for name in ("one", "two")]
        images = [Image.open(each) for each in paths]
        first, second = (np.asarray(each.convert("RGB"), np.int16) for each in images)
        differences.append(int(np.abs(first - second).max()))
        equal += paths[0].read_bytes() == paths[1].read_bytes()
    return {
        "images": len(differences),
        "largest difference, of 255": max(differences),
        "equal files": equal,
    }


def main() -> None:
    """Run both, and write the result."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    before = environment()
    command = [sys.executable, "-m", "deepgen", "serve", "--ray", "2", "--device", "cpu"]
    with subprocess.Popen(
        [*command, "--port", str(PORT)], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        try:
            while not (line := server.stdout.readline()).startswith("http"):
                if not line:
                    raise RuntimeError("the server ended")
            result = served(line.strip())
        finally:
            server.terminate()
            result_code = server.wait(120)
    with tempfile.TemporaryDirectory() as folder:
        images = {
            "generate": generated(Path(folder)),
            "eval generate": evaluated(Path(folder)),
        }
    import ray

    record = {"environment": before, "ray": ray.__version__, "serve": result, **images}
    write("serve_ray", {**record, "exit code": result_code})


if __name__ == "__main__":
    main()
