"""Commands disturbed over and over: is anything lost or half-written, and is the end the same?

``python perf/soak.py --minutes 60``; the record is ``perf/results/soak.json``, and is printed. One
round is a chain of commands in a folder of its own: import, cache of latents, training with
checkpoints and export, images of a benchmark, scores, report, conversion to one file. First the
chain runs undisturbed. Then, until the time is over, each command of each round is disturbed once
or twice, by one of:

- kill, term: SIGKILL or SIGTERM at a random time of its usual duration;
- full disk: the folder is on a small tmpfs that gets full (without the right to mount one: a limit
  on the size of files);
- clock: the command sees a clock that jumps by up to ten years, and files have such dates;
- damage: bytes of a checkpoint, a generated image or a shard change after a kill. Commands have to
  continue without it; what cannot be made again, a shard, has to be found by ``data check``;
- second writer: the same command twice at once. One has to be refused.

Then the command is started again until it ends. Whatever it does, it must not end with a traceback
or with an exit code that is not documented, and at the end of a round all files must equal those of
the undisturbed chain, except for times, and no unfinished file may be left but those that a killed
process was writing under a hidden name (``.deepgen-*.part``), which nothing reads.

Each command is a process forked from one that has imported all modules: most of a command's time
would be imports otherwise. ``tests/cli/test_signals.py`` disturbs those.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from multiprocessing.context import ForkProcess as Process
from pathlib import Path

from measure import environment, write

from deepgen.__main__ import run
from deepgen.mini.training.samples import training_sample
from deepgen.mini.world.drawing import draw

IMAGES = 6
STEPS = 4
DISK_MIB = 768
"""Room for the checkpoints that are kept, a damaged one, and one that is being written."""

HANGING_SECONDS = 900

WRITTEN = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00")
"""The time in reports."""

FORKS = multiprocessing.get_context("fork")

IMPORTED = (
    "deepgen.cli.main",
    "deepgen.cli.train",
    "deepgen.stages.assembling",
    "deepgen.pipeline.pipeline",
    "deepgen.data.importing",
    "deepgen.data.latents",
    "deepgen.eval.run.generation",
    "deepgen.eval.report.report_files",
    "deepgen.mini.reader.scenes",
    "deepgen.checkpoint.native_export",
    "deepgen.checkpoint.conversion",
)

CHAIN: Mapping[str, tuple[str, ...]] = {
    "import": ("data", "import", "folder", "../images", "data", "--min-side", "32"),
    "cache": ("data", "cache", "data"),
    "train": (
        *("train", "smoke", "--data", "data", "--output", "run", "--steps", str(STEPS)),
        *("--save-every", "1", "--log-every", "1", "--keep", "2", "--microbatch-size", "1"),
        *("--t2i-microbatches", "2", "--sample-prompts", "a red apple", "--sample-every", "2"),
    ),
    "evaluate": (
        *("eval", "generate", "minibench", "--model", "run/model", "--limit", "4"),
        *("--output", "eval"),
    ),
    "score": ("eval", "score", "minibench", "--output", "eval"),
    "report": ("eval", "report", "eval"),
    "export": ("convert", "run/model", "native.pt"),
}

DOCUMENTED = {0, 2, 3, 75, 130, 143, -signal.SIGKILL, -signal.SIGTERM}
"""Exit codes; and 1 with the message of a full disk."""


def main() -> None:
    """Run undisturbed, then disturbed until the time is over, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    start = time.perf_counter()
    for module in IMPORTED:
        importlib.import_module(module)
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(Path(folder), random.Random(arguments.seed))
        with soak.disk:
            soak.prepare()
            rounds = equal = 0
            while time.perf_counter() - start < arguments.minutes * 60:
                rounds += 1
                equal += soak.disturbed_round(rounds)
                minutes = round((time.perf_counter() - start) / 60, 1)
                # After each round: what kills this script loses one.
                write(
                    "soak",
                    {
                        "environment": environment(),
                        "seed": arguments.seed,
                        "minutes": minutes,
                        "rounds": rounds,
                        "rounds_equal_to_the_undisturbed": equal,
                        **soak.record(),
                    },
                )


class Disk:
    """A folder whose size can be limited."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_mounted = False
        self.file_limit: int | None = None

    def __enter__(self) -> None:
        self.path.mkdir()
        self.is_mounted = self._mount(f"size={DISK_MIB}M")

    def __exit__(self, *_: object) -> None:
        if self.is_mounted:
            subprocess.run(["umount", "-l", str(self.path)], check=True)

    def limit(self, spare_bytes: int | None) -> None:
        """Leave so much room; None for all of it."""
        if not self.is_mounted:
            self.file_limit = spare_bytes
            return
        if spare_bytes is None:
            size = f"{DISK_MIB}M"
        else:
            # tmpfs counts pages.
            size = str((shutil.disk_usage(self.path).used + spare_bytes) // 4096 * 4096 + 4096)
        assert self._mount(f"remount,size={size}"), "the limit cannot be changed"

    def _mount(self, options: str) -> bool:
        command = ["mount", "-t", "tmpfs", "-o", options, "soak", str(self.path)]
        try:
            return subprocess.run(command, capture_output=True, check=False).returncode == 0
        except FileNotFoundError:
            return False


class Soak:
    """The rounds, and what was seen in them."""

    def __init__(self, root: Path, chance: random.Random) -> None:
        self.root, self.chance = root, chance
        self.disk = Disk(root / "disk")
        self.place = Path()
        """Folder of the present round."""
        self.seconds: dict[str, float] = {}
        self.expected: dict[str, str] = {}
        self.done: Counter[tuple[str, str]] = Counter()
        """Disturbances, by command."""
        self.effects: Counter[tuple[str, str]] = Counter()
        """How disturbed commands ended, by disturbance."""
        self.faults: list[str] = []
        self.left_over = 0
        """Files that killed processes were writing: hidden, and read by nobody."""

    def prepare(self) -> None:
        """Make the source, and run the chain undisturbed."""
        images = self.disk.path / "images"
        images.mkdir()
        for number in range(IMAGES):
            sample = training_sample(number, 0, split="soak")
            draw(sample.target).save(images / f"{number}.png")
            (images / f"{number}.txt").write_text(sample.text, encoding="utf-8")
        self.place = self.disk.path / "undisturbed"
        self.place.mkdir()
        for name in CHAIN:
            start = time.perf_counter()
            process = self.start(name)
            if self.end(process):
                raise SystemExit(f"{name} undisturbed: {process.exitcode}, {self.said(process)}")
            self.seconds[name] = time.perf_counter() - start
        self.expected = outcome(self.place)
        shutil.rmtree(self.place)

    def disturbed_round(self, number: int) -> bool:
        """One chain; returns whether it ended as the undisturbed one."""
        self.place = self.disk.path / f"round-{number}"
        self.place.mkdir()
        kinds: Mapping[str, Callable[[str], None]] = {
            "kill": self.kill,
            "term": self.term,
            "full disk": self.fill,
            "clock": self.jump,
            "damage": self.damage,
            "second writer": self.twice,
        }
        for name in CHAIN:
            for kind in self.chance.sample(list(kinds), self.chance.choice([1, 1, 2])):
                self.done[kind, name] += 1
                kinds[kind](name)
            if not self.finish(name):
                shutil.rmtree(self.place)
                return False
        self.left_over += sum(map(is_left_over, self.place.rglob(".deepgen-*")))
        left = outcome(self.place)
        differing = sorted(
            name for name in {*left, *self.expected} if left.get(name) != self.expected.get(name)
        )
        if differing:
            self.faults.append(f"round {number}: {', '.join(differing)} differ")
        shutil.rmtree(self.place)
        return not differing

    # -- disturbances ----------------------------------------------------------------------------

    def kill(self, name: str) -> None:
        """SIGKILL."""
        self.interrupt(name, signal.SIGKILL, "kill")

    def term(self, name: str) -> None:
        """SIGTERM."""
        self.interrupt(name, signal.SIGTERM, "term")

    def fill(self, name: str) -> None:
        """Let the disk get full."""
        self.disk.limit(int(2 ** self.chance.uniform(8, 22)))
        process = self.start(name)
        code = self.end(process)
        self.disk.limit(None)
        self.check("full disk", name, process, code, may_fail=("No space left", "File too large"))

    def jump(self, name: str) -> None:
        """Let the clock jump, and give files other dates."""
        jump = self.chance.uniform(-1, 1) * 10 * 365 * 86400
        for path in self.place.rglob("*"):
            if self.chance.random() < 0.5:
                os.utime(path, (time.time() + jump, time.time() + jump))
        process = self.start(name, clock=jump)
        self.check("clock", name, process, self.end(process))

    def damage(self, name: str) -> None:
        """Change bytes of what an interrupted command left."""
        self.interrupt(name, signal.SIGKILL, "damage")
        places = {
            "import": "data/*.tar",
            "train": "run/checkpoints/step_*/*.safetensors",
            "evaluate": "eval/images/**/*.png",
        }
        found = sorted(self.place.glob(places[name])) if name in places else []
        # Without an older checkpoint a run cannot continue.
        if not found or (name == "train" and len({each.parent for each in found}) == 1):
            return
        path = self.chance.choice(found[-2:])
        content = bytearray(path.read_bytes())
        for _ in range(8):
            content[self.chance.randrange(len(content))] ^= 1 << self.chance.randrange(8)
        path.write_bytes(content)
        self.effects["damage", f"a {path.suffix[1:]} was damaged"] += 1
        if name == "import":
            self.finish(name)
            process = self.start("check", ("data", "check", "data"))
            code = self.end(process)
            self.check("damage", "check", process, code)
            if code == 0:
                self.faults.append(f"{path.name} is damaged, and data check did not see it")
            shutil.rmtree(self.place / "data")

    def twice(self, name: str) -> None:
        """Start a command twice."""
        first = self.start(name)
        time.sleep(self.chance.uniform(0, 0.2) * self.seconds[name])
        second = self.start(name, log="second")
        codes = [self.end(first), self.end(second)]
        for process, code in zip((first, second), codes, strict=True):
            self.check("second writer", name, process, code)
        if all(codes):
            self.faults.append(f"{name} twice: none of both ended well, {codes}")

    def interrupt(self, name: str, number: signal.Signals, kind: str) -> None:
        """Send a signal at a random time."""
        process = self.start(name)
        process.join(self.chance.uniform(0.02, 1.05) * self.seconds[name])
        if process.is_alive() and process.pid is not None:
            os.kill(process.pid, number)
        self.check(kind, name, process, self.end(process))

    # -- commands --------------------------------------------------------------------------------

    def finish(self, name: str) -> bool:
        """Start a command undisturbed; returns whether it ends well."""
        process = self.start(name)
        code = self.end(process)
        # A file that is there is not written again.
        is_well = code == 0 or (name == "export" and "native.pt exists" in self.said(process))
        if not is_well:
            self.faults.append(f"{self.place.name}, {name} does not end: {self.said(process)}")
        return is_well

    def start(
        self,
        name: str,
        command: tuple[str, ...] = (),
        *,
        clock: float = 0.0,
        log: str = "first",
    ) -> Process:
        """Start a command of the chain, or another one, in the folder of the round."""
        process = FORKS.Process(
            target=run_command,
            args=(command or CHAIN[name], self.place, self.root / log),
            kwargs={"clock": clock, "file_limit": self.disk.file_limit},
            name=log,
        )
        process.start()
        return process

    def end(self, process: Process) -> int:
        """Wait for a command; one that hangs is a fault."""
        process.join(HANGING_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()
            self.faults.append(f"{self.place.name}: a command hangs: {self.said(process)}")
        assert process.exitcode is not None
        return process.exitcode

    def said(self, process: Process) -> str:
        """What it printed on standard error."""
        return (self.root / process.name).read_text("utf-8", "replace")[-2000:]

    def check(
        self,
        kind: str,
        name: str,
        process: Process,
        code: int,
        may_fail: tuple[str, ...] = (),
    ) -> None:
        """Note how a disturbed command ended, and see that it may end so."""
        said = self.said(process)
        refused = code == 2 and "is being written by process" in said
        self.effects[kind, "refused with the holder's process" if refused else str(code)] += 1
        failed = code == 1 and any(each in said for each in may_fail)
        if "Traceback" in said or not (code in DOCUMENTED or failed):
            self.faults.append(f"{self.place.name}, {kind}, {name}: {code}, {said[-500:]}")

    def record(self) -> dict[str, object]:
        """What was seen so far."""
        return {
            "disk": "tmpfs" if self.disk.is_mounted else "limit on the size of files",
            "seconds_undisturbed": {name: round(each, 1) for name, each in self.seconds.items()},
            "disturbances": self.done.total(),
            "disturbances_by_command": counted(self.done),
            "ends_of_disturbed_commands": counted(self.effects),
            "unfinished_hidden_files_left_by_kills": self.left_over,
            "faults": self.faults,
        }


def counted(found: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    """Counts in two levels."""
    return {
        outer: {inner: found[outer, inner] for first, inner in sorted(found) if first == outer}
        for outer in sorted({first for first, _ in found})
    }


def run_command(
    command: tuple[str, ...], place: Path, log: Path, *, clock: float, file_limit: int | None
) -> None:
    """The body of a command's process.

    Args:
        clock: Seconds by which the clock jumps to and fro, once a second.
        file_limit: Bytes that a file may have.
    """
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.chdir(place)
    if clock:
        real, start = time.time, time.monotonic()
        time.time = lambda: real() + clock * (int(time.monotonic() - start) % 2)
    if file_limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    sys.argv[1:] = command
    sys.exit(run())


def outcome(place: Path) -> dict[str, str]:
    """Hashes of all files; without times and speed, and of checkpoints only their names."""
    return {
        path.relative_to(place).as_posix(): hashlib.sha256(content_of(path)).hexdigest()
        for path in sorted(place.rglob("*"))
        if path.is_file() and not is_left_over(path)
    }


def is_left_over(path: Path) -> bool:
    """What may stay: files that a killed process was writing, and checkpoints that were damaged."""
    return path.name.startswith(".deepgen-") or path.parent.name.startswith("damaged_step_")


def content_of(path: Path) -> bytes:
    """What is compared of a file."""
    if path.parent.parent.name == "checkpoints":
        return b""
    if path.suffix == ".pt":
        # Its entries are in a folder that is named like the file at first.
        with zipfile.ZipFile(path) as file:
            return b"".join(file.read(name) for name in file.namelist())
    content = path.read_bytes()
    if path.name == "metrics.jsonl":
        lines = [json.loads(line) for line in content.splitlines()]
        for line in lines:
            line.pop("speed", None)
        return json.dumps(lines).encode()
    if path.name.startswith("report."):
        return WRITTEN.sub(b"", content)
    return content


if __name__ == "__main__":
    main()
