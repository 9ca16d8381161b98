"""Are the results of ``deepgen train`` the same after kills as those of an undisturbed run?

``python perf/kill_command.py``; the results are in ``perf/results/kill_command.json``. Unlike
``kill_soak.py`` this is what a user runs: the command with the embedded model, its data set, logs,
checkpoints and the export of model and adapters. Kills come at random times, after 0.3 to 1.1 of
the duration of an undisturbed run; every third waits for the export. A killed run is restarted
until it ends. Models, adapters, images, settings and metrics are compared byte by byte, except for
the metrics of speed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from measure import environment, write

from deepgen.mini.training.samples import training_sample
from deepgen.mini.world.drawing import draw

IMAGES = 8


def main() -> None:
    """Run, kill, run again, compare, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=12)
    arguments = parser.parse_args()
    times = random.Random(arguments.seed)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        data = make_data(root)
        undisturbed = Run(root / "undisturbed", data, arguments.steps)
        seconds = undisturbed.to_the_end()
        expected = undisturbed.outcome()
        found: Counter[str] = Counter()
        differing: Counter[str] = Counter()
        runs = equal = 0
        while found.total() < arguments.kills:
            run = Run(root / f"killed-{runs}", data, arguments.steps)
            while True:
                limit = times.uniform(0.3, 1.1) * seconds
                moment = run.kill_after(limit, exporting=found.total() % 3 == 2)
                if moment is None:
                    break
                found[moment] += 1
            runs += 1
            left = run.outcome()
            equal += left == expected
            differing.update(
                name for name in {*left, *expected} if left.get(name) != expected.get(name)
            )
        write(
            "kill_command",
            {
                "environment": environment(),
                "steps": arguments.steps,
                "runs": runs,
                "equal_to_the_last_bit": equal,
                "files_that_differ": dict(differing),
                "kills": found.total(),
                "kills_by_moment": dict(found),
                "seconds_undisturbed": round(seconds, 1),
                "seconds": round(time.perf_counter() - start, 1),
            },
        )


class Run:
    """A run of the command in a folder of its own."""

    def __init__(self, output: Path, data: Path, steps: int) -> None:
        self.output = output
        self._errors = output.with_suffix(".errors")
        self._left_before: set[Path] = set()
        self._arguments = [
            *("train", "smoke", "--data", str(data), "--output", str(output)),
            *("--steps", str(steps), "--save-every", "2", "--log-every", "1", "--keep", "2"),
            *("--microbatch-size", "1", "--t2i-microbatches", "2"),
            *("--sample-prompts", "a red apple", "--sample-every", str(steps // 2)),
        ]

    def start(self) -> subprocess.Popen[bytes]:
        """Start or resume it."""
        command = [sys.executable, "-m", "deepgen", *self._arguments]
        self._left_before = set(self._unfinished())
        with self._errors.open("wb") as errors:
            return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)

    def to_the_end(self) -> float:
        """Run it to the end; returns the seconds it took."""
        start = time.perf_counter()
        self._check(self.start())
        return time.perf_counter() - start

    def kill_after(self, seconds: float, *, exporting: bool) -> str | None:
        """Start and kill it; returns the phase it was killed in, or None if it ended before.

        Args:
            seconds: After which it is killed.
            exporting: Kill it instead when it writes its model or adapters.
        """
        process, start = self.start(), time.perf_counter()
        while process.poll() is None:
            late = time.perf_counter() - start > seconds
            if self._is_exporting() if exporting else late:
                process.kill()
                process.wait()
                return self._moment()
            time.sleep(0.002)
        self._check(process)
        return None

    def outcome(self) -> dict[str, str]:
        """Hashes of all its files but checkpoints; metrics without those of speed."""
        found = {}
        for path in sorted(self.output.rglob("*")):
            name = path.relative_to(self.output)
            if not path.is_file() or name.parts[0] == "checkpoints":
                continue
            content = path.read_bytes()
            if path.name == "metrics.jsonl":
                lines = [json.loads(line) for line in content.splitlines()]
                for line in lines:
                    line.pop("speed", None)
                content = json.dumps(lines).encode()
            elif path.name == "config.yaml":
                content = content.replace(str(self.output).encode(), b"OUTPUT")
            found[str(name)] = hashlib.sha256(content).hexdigest()
        return found

    def _moment(self) -> str:
        """The phase in which the run has just been killed."""
        checkpoints = self.output / "checkpoints"
        new = set(self._unfinished()) - self._left_before
        if any(each.parent == checkpoints for each in new):
            return "saving"
        if self._is_exporting():
            return "exporting"
        return "elsewhere" if any(checkpoints.glob("step_*")) else "before the first checkpoint"

    def _is_exporting(self) -> bool:
        new = set(self._unfinished()) - self._left_before
        return any(each.parent == self.output for each in new)

    def _unfinished(self) -> list[Path]:
        """Files being written, or left unfinished by an earlier kill."""
        places = (self.output, self.output / "checkpoints")
        return [each for place in places for each in place.glob(".*")]

    def _check(self, process: subprocess.Popen[bytes]) -> None:
        if process.wait():
            errors = self._errors.read_text(errors="replace")
            raise SystemExit(f"{self.output} ended with {process.returncode}: {errors}")


def make_data(root: Path) -> Path:
    """A data set of images of the mini's world."""
    images = root / "images"
    images.mkdir()
    for number in range(IMAGES):
        sample = training_sample(number, 0, split="soak")
        draw(sample.target).save(images / f"{number}.png")
        (images / f"{number}.txt").write_text(sample.text, encoding="utf-8")
    command = ["data", "import", "folder", str(images), str(root / "data"), "--min-side", "32"]
    subprocess.run([sys.executable, "-m", "deepgen", *command], check=True, capture_output=True)
    return root / "data"


if __name__ == "__main__":
    main()
