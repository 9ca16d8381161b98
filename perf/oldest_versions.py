"""The whole suite with the oldest supported versions, and what failed in it.

``.venv-oldest/bin/python perf/oldest_versions.py`` (``make test-oldest`` builds that environment)
runs all tests and writes ``perf/results/oldest_versions.json``. With ``--again`` it runs only those
that failed the last time, after they were mended, and adds the result to that record.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from measure import RESULTS, environment, write

ROOT = Path(__file__).resolve().parents[1]
NAME = "oldest_versions"
FAILED = ".pytest_cache/v/cache/lastfailed"
COUNTS = ("tests", "failures", "errors", "skipped")


def main() -> None:
    """Run the tests, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="of pytest-xdist")
    parser.add_argument("--again", action="store_true", help="only what failed the last time")
    arguments = parser.parse_args()
    differing = differences(ROOT / "constraints-oldest.txt")
    if differing:
        parser.error(f"not the oldest versions: {'; '.join(differing)}; use make test-oldest")
    options = ["-n", str(arguments.workers), "--dist", "worksteal"]
    if not arguments.again:
        write(NAME, run(options))
        return
    record = json.loads((RESULTS / f"{NAME}.json").read_text())
    record.setdefault("failed_tests_run_again", []).append(run([*options, "--last-failed"]))
    write(NAME, record)


def differences(constraints: Path) -> list[str]:
    """Direct dependencies that do not have the version of the constraints, as sentences."""
    found = []
    pinned = dict(line.split("==") for line in constraints.read_text().split("\n") if "==" in line)
    for name in ("torch", "transformers", "diffusers", "peft", "accelerate", "numpy", "rich"):
        installed = version(name).partition("+")[0]
        if installed != pinned[name]:
            found.append(f"{name} is {installed}, expected {pinned[name]}")
    return found


def run(options: list[str]) -> dict[str, Any]:
    """Run pytest; what ran where, how long it took and what failed."""
    before = environment()
    # As the commands of an activated environment: tests start them by name.
    folder = str(Path(sys.executable).parent)
    variables = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PATH": os.pathsep.join([folder, os.environ["PATH"]]),
    }
    if "--last-failed" not in options:
        (ROOT / FAILED).unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        report = Path(temporary) / "report.xml"
        command = [sys.executable, "-m", "pytest", *options, f"--junitxml={report}"]
        subprocess.run(command, cwd=ROOT, env=variables, check=False)
        suite = ElementTree.parse(report).getroot().find("testsuite")
        assert suite is not None
    counts = {name: int(suite.attrib[name]) for name in COUNTS}
    failed = json.loads((ROOT / FAILED).read_text()) if (ROOT / FAILED).exists() else {}
    return {
        "command": " ".join(["pytest", *options]),
        "revision": revision(),
        "seconds": round(float(suite.attrib["time"])),
        "passed": counts["tests"] - counts["failures"] - counts["errors"] - counts["skipped"],
        "skipped": counts["skipped"],
        "failed": sorted(failed),
        "load_after": [round(each, 2) for each in os.getloadavg()],
        "environment": before,
    }


def revision() -> str:
    """The commit that is checked out."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


if __name__ == "__main__":
    main()
