"""Rehearses all plans from the bundle alone, on a CPU, with the oldest supported versions.

``make gpu-rehearsal``: a fresh environment with what a bundle takes for granted, at the versions of
``constraints-oldest.txt``, without this package and its other dependencies; no network, an empty
home. Each plan is killed in the middle and started again. The record is in
``perf/results/gpu_rehearsal.json``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gpu.bundle import BASE, MIB, pack_checkout
from gpu.environment import ROOT, ask
from gpu.parts import join, split_results
from gpu.plan import PLANS

CONSTRAINTS = ROOT / "constraints-oldest.txt"

RESULT = ROOT / "perf" / "results" / "gpu_rehearsal.json"

TIMEOUT_SECONDS = 3600

# A network namespace of its own, in which only the loopback works (processes of one job need it).
_ISOLATED = """
import fcntl, os, socket, struct, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as each:
    fcntl.ioctl(each, 0x8914, struct.pack("16sH14s", b"lo", 0x41, b""))
os.execvp(sys.argv[1], sys.argv[1:])
"""


class RehearsalError(Exception):
    """What the rehearsal found to be wrong, in one line."""


def rehearse(
    python: str, folder: Path, plans: Sequence[str], golden: Path | None
) -> dict[str, Any]:
    """Run the plans from a new bundle; the record.

    Args:
        python: A Python that a virtual environment can be made with.
        folder: Where environment, wheels and bundle are kept.
        plans: Names of plans.
        golden: Reference numbers for the bundle.

    Raises:
        RehearsalError: A row is not filled, or a start ends otherwise than it should.
    """
    version = ask(python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])")
    if version is None:
        raise RehearsalError(f"{python} does not run; name another by --python")
    bare = make_environment(python, folder)
    bundle = folder / "bundle.zip"
    size = pack_checkout(bundle, version, folder / "wheels", golden, None)
    first = bundle.read_bytes()
    pack_checkout(bundle, version, folder / "wheels", golden, None)
    if bundle.read_bytes() != first:
        raise RehearsalError("the bundle made twice has different bytes")
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        (place / "home").mkdir()
        shutil.copy(bundle, place)
        machine = Machine(bare, place)
        rows = {name: machine.rehearse(name) for name in plans}
        back = split_results(place / "out", place / "parts")
        join(place / "parts", place / "joined")
        back_bytes = sum(path.stat().st_size for path in back)
        record = json.loads((place / "out" / plans[0] / "record.json").read_text())
    return {
        "environment": {**record["starts"][0], "versions": _versions(bare)},
        "bundle_mib": round(size / MIB, 1),
        "made_twice": "equal bytes",
        "network": machine.network,
        "results_mib": round(back_bytes / MIB, 2),
        "plans": rows,
    }


def make_environment(python: str, folder: Path) -> str:
    """Python of an environment with the oldest versions of what a bundle takes for granted.

    It is made once per content of the constraints.
    """
    digest = hashlib.sha256(CONSTRAINTS.read_bytes() + python.encode()).hexdigest()
    place = folder / "environment"
    own, mark = place / "bin" / "python", place / "constraints.sha256"
    if mark.exists() and mark.read_text() == digest:
        return str(own)
    shutil.rmtree(place, ignore_errors=True)
    subprocess.run([python, "-m", "venv", str(place)], check=True)
    command = [str(own), "-m", "pip", "install", "--quiet", "-c", str(CONSTRAINTS), *BASE]
    subprocess.run(command, check=True)
    mark.write_text(digest)
    return str(own)


class Machine:
    """A bare machine: an interpreter, an empty home, the bundle, and no network."""

    def __init__(self, python: str, folder: Path) -> None:
        self.folder = folder
        command = [python, str(folder / "bundle.zip")]
        isolated = ["unshare", "--net", "--map-root-user", python, "-c", _ISOLATED]
        self.network = "none: a network namespace of its own"
        if ask(*isolated, python, "-c", "print(1)") != "1":
            self.network = "proxies that do not exist"
            isolated = []
        self.command = [*isolated, *command]
        nowhere = "http://127.0.0.1:9"
        self.environment = {
            "HOME": str(folder / "home"),
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            **({} if isolated else {"http_proxy": nowhere, "https_proxy": nowhere}),
        }

    def rehearse(self, plan: str) -> dict[str, Any]:
        """Kill the plan in its middle, start it again, and check its record."""
        print(f"{plan} ...", file=sys.stderr, flush=True)
        started = time.monotonic()
        killed = self._killed_in_the_middle(plan)
        done = self._start(plan)
        try:
            output, _ = done.communicate(timeout=TIMEOUT_SECONDS)
        finally:
            _kill(done)
        record = self._record(plan)
        rows: Mapping[str, Any] = record["rows"]
        if done.returncode != 0 or record["state"] != "complete":
            bad = {
                name: row.get("error", row["state"])
                for name, row in rows.items()
                if row["state"] != "done"
            }
            end = "; ".join(output.strip().splitlines()[-2:])
            raise RehearsalError(f"{plan}: rc {done.returncode}, {record['state']}, {bad}; {end}")
        again = [name for name in killed if rows[name]["start"] != 0]
        if again:
            raise RehearsalError(f"{plan}: rows that were done were run again: {again}")
        return {
            "rows": len(rows),
            "done_before_the_kill": len(killed),
            "returncode": done.returncode,
            "seconds": round(time.monotonic() - started, 1),
        }

    def _killed_in_the_middle(self, plan: str) -> list[str]:
        """Names of rows that were done when the process was killed, at least one."""
        process = self._start(plan)
        end = time.monotonic() + TIMEOUT_SECONDS
        try:
            while process.poll() is None and time.monotonic() < end:
                states = self._states(plan)
                if "done" in states.values() and "running" in states.values():
                    break
                time.sleep(0.05)
        finally:
            _kill(process)
        return [name for name, state in self._states(plan).items() if state == "done"]

    def _start(self, plan: str) -> subprocess.Popen[str]:
        command = [*self.command, "run", plan, "--toy", "--out", str(self.folder / "out")]
        # More than nine minutes, so that rows do not depend on what else runs here.
        command += ["--seconds", str(TIMEOUT_SECONDS)]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def _states(self, plan: str) -> dict[str, str]:
        if not (self.folder / "out" / plan / "record.json").exists():
            return {}
        return {name: row["state"] for name, row in self._record(plan)["rows"].items()}

    def _record(self, plan: str) -> dict[str, Any]:
        path = self.folder / "out" / plan / "record.json"
        if not path.exists():
            raise RehearsalError(f"{plan} did not start")
        record: dict[str, Any] = json.loads(path.read_text())
        return record


def _kill(process: subprocess.Popen[str]) -> None:
    """End a process and its children, which are in its session."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _versions(python: str) -> list[str]:
    listed = ask(python, "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check")
    return [
        line
        for line in (listed or "").splitlines()
        if line.split("==")[0].lower().replace("_", "-") in BASE
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Rehearse, and write the record."""
    parser = argparse.ArgumentParser(
        prog="rehearse", description=(__doc__ or "").splitlines()[0], allow_abbrev=False
    )
    parser.add_argument("plans", nargs="*", help=f"default: all ({', '.join(PLANS)})")
    parser.add_argument("--python", help="default: python3.12, else this one")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "rehearsal")
    options = parser.parse_args(arguments)
    shared = os.environ.get("DEEPGEN_SHARED")
    python = options.python or (
        "python3.12" if ask("python3.12", "-c", "") is not None else sys.executable
    )
    try:
        record = rehearse(
            python,
            options.folder,
            options.plans or PLANS,
            Path(shared) / "golden" if shared else None,
        )
    except (RehearsalError, ValueError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    text = json.dumps(record, indent=1) + "\n"
    print(text)
    if not options.plans:
        RESULT.write_text(text)
    return 0
