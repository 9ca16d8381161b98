"""Random requests against the server's HTTP side, made from the schema of the fields.

``python perf/serve_fuzz.py --cases 2000`` sends so many requests, JSON and multipart, to both
endpoints, and fails if an answer has status 5xx, takes more than 2 s, or is an error without
OpenAI's error object. The engine is a stub; everything before it is the server's own. The result is
``perf/results/serve_fuzz.json``.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import httpx2
from measure import environment, write

from tests.serve.fuzzing import complaint, make_case
from tests.serve.stub import StubEngine, running


def main() -> int:
    """Send them, write the result, and say what was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=2000)
    options = parser.parse_args()
    before = environment()
    statuses: Counter[int] = Counter()
    complaints: list[str] = []
    slowest = 0.0
    with running(StubEngine()) as here, httpx2.Client(timeout=60) as client:
        for seed in range(options.cases):
            case = make_case(random.Random(seed))
            started = time.monotonic()
            status, found = complaint(here.url, case, client)
            slowest = max(slowest, time.monotonic() - started)
            statuses[status] += 1
            if found is not None:
                complaints.append(f"seed {seed}: {found}")
    result = {
        "environment": before,
        "requests": options.cases,
        "statuses": {str(status): count for status, count in sorted(statuses.items())},
        "slowest, s": round(slowest, 3),
        "complaints": complaints,
    }
    write("serve_fuzz", result)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
