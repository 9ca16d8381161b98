"""10,000 rows with 3 % faults of twelve kinds: are all found, and do mixtures keep their weights?

``PYTHONPATH=. python perf/data_faults.py``; the record is ``perf/results/data_faults.json``.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from measure import environment, write

from deepgen.data.dataset import read_quarantine
from deepgen.data.importers.registry import open_source
from deepgen.data.importers.source import SourceOptions
from deepgen.data.importing import ImportOptions, import_source
from deepgen.data.loader import Loader, LoaderOptions, TaskPlan
from deepgen.data.mixture import MixedData, open_data
from tests.data.faulty_set import MAPPING, faulty_set

WEIGHTS = {"one": 0.5, "two": 0.3, "three": 0.2}
ROWS = {"one": 6000, "two": 1000, "three": 3000}
STEPS = 625
"""Of 16 samples: one block of the mixture's order."""


def main() -> None:
    """Plant, import, compare, draw, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--share", type=float, default=0.03)
    share = parser.parse_args().share
    wrong = 0
    planted: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for first, (name, count) in enumerate(ROWS.items()):
            wanted = faulty_set(root / f"{name}_source", count, round(share * count), first=first)
            planted.update(wanted.values())
            source = open_source(
                "table", root / f"{name}_source" / "rows.jsonl", SourceOptions(mapping=MAPPING)
            )
            report = import_source(source, root / name, ImportOptions(name=name))
            found = {
                each["sample_id"].partition("/")[2]: each["reason"]
                for each in read_quarantine(root / name)
            }
            wrong += len(wanted.items() ^ found.items())
            assert report.samples + len(found) == report.rows == count
        sources = ", ".join(f"{{data: {name}, weight: {each}}}" for name, each in WEIGHTS.items())
        (root / "mix.yaml").write_text(f"sources: [{sources}]")
        errors = shares_of(root / "mix.yaml")
    write(
        "data_faults",
        {
            "environment": environment(),
            "rows": sum(ROWS.values()),
            "planted": dict(sorted(planted.items())),
            "wrong_or_missed": wrong,
            "draws_of_each_task": 16 * STEPS,
            "largest_error_of_a_weight": round(max(errors.values()), 6),
            "errors": {name: round(each, 6) for name, each in errors.items()},
        },
    )


def shares_of(path: Path) -> dict[str, float]:
    """Difference of what a run draws of each source to its weight, by task and source."""
    data = open_data(path)
    assert isinstance(data, MixedData)
    plan = TaskPlan(microbatch_size=4, microbatches=4)
    options = LoaderOptions(tasks={"t2i": plan, "edit": plan}, seed=0, side=96)
    loader = Loader(data, options)
    starts = np.array(list(data.first_rows.values()))
    drawn: dict[str, Counter[str]] = {"t2i": Counter(), "edit": Counter()}
    for step in range(STEPS):
        for batch in loader.plan(step):
            rows = [each.row for each in batch.occurrences]
            members = np.searchsorted(starts, rows, side="right") - 1
            drawn[batch.stream].update(list(data.first_rows)[each] for each in members)
    return {
        f"{task}/{name}": abs(counts[name] / counts.total() - WEIGHTS[name])
        for task, counts in drawn.items()
        for name in WEIGHTS
    }


if __name__ == "__main__":
    main()
