"""The JavaScript openai client against the server.

``npm install openai`` in an empty folder, then ``python perf/serve_js_client.py FOLDER`` starts
``deepgen serve`` with the embedded model and makes every kind of call of ``serve_js_client.mjs``.
The result is ``perf/results/serve_js_client.json``; it fails if a call does.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx2
from measure import environment, write

CALLS = Path(__file__).with_suffix(".mjs")


def main() -> int:
    """Start the server, call it, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="in which openai is installed")
    folder = parser.parse_args().folder
    before = environment()
    package = json.loads((folder / "node_modules/openai/package.json").read_text(encoding="utf-8"))
    # Beside its packages, where node looks for them.
    calls = shutil.copy(CALLS, folder)
    command = [sys.executable, "-m", "deepgen", "serve", "--port", "0", "--device", "cpu"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        try:
            while httpx2.get(f"{url}/readyz").status_code != 200:
                time.sleep(0.2)
            made = subprocess.run(
                ["node", calls, url], stdout=subprocess.PIPE, text=True, check=True, timeout=600
            )
        finally:
            server.terminate()
            server.wait(60)
            Path(calls).unlink()
    results = json.loads(made.stdout)
    node = subprocess.run(["node", "--version"], stdout=subprocess.PIPE, text=True, check=True)
    versions = {"openai": package["version"], "node": node.stdout.strip()}
    write("serve_js_client", {"environment": before, "versions": versions, "calls": results})
    return 0 if all(each == "works" for each in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
