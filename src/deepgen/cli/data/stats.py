"""``deepgen data stats``: what a data set or a mixture consists of."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from deepgen.cli.console import aligned, print_line, print_result
from deepgen.cli.data.counts import Counts, indented, print_columns
from deepgen.cli.options import DataFolder
from deepgen.config.checks import check_at_least

SHOWN_BUCKETS = 12
"""Lines printed; --json lists them all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stats:
    """Count samples by task, bucket, kind and length of prompts, and size; of a mixture, by source
    what a run will see."""

    folder: DataFolder
    """A data set, or the file of a mixture."""
    side: int = 512
    """Buckets are of about SIDE * SIDE pixels."""
    samples: int = 1_000_000
    """Of a mixture: samples of the run, all tasks together."""
    json: bool = False
    """Print one JSON object."""
    debug: bool = False
    """Show where an error comes from."""

    def run(self) -> None:
        """Print the numbers."""
        from deepgen.data.mixture import MixedData, open_data
        from deepgen.data.stats import stats_of

        check_at_least("--side", self.side, 1)
        check_at_least("--samples", self.samples, 1)
        data = open_data(self.folder)
        found = asdict(stats_of(data, side=self.side))
        seen: list[dict[str, Any]] = []
        refused: list[str] = []
        if isinstance(data, MixedData):
            split = data.split_samples(self.samples)
            seen, refused = data.seen(split), data.too_many_passes(split)
        if self.json:
            print_result(
                json.dumps({**found, "sources": seen, "refused": refused} if seen else found)
            )
            return
        if seen:
            _print_sources(self.folder, seen, self.samples)
        for message in refused:
            print_line(f"warning: training refuses such a run: {message}")
        lines: Counts = []
        for name, value in found.items():
            title = name.replace("_", " ")
            if not isinstance(value, dict):
                lines.append((title, value))
                continue
            lines.append((title, len(value) if name == "buckets" else ""))
            lines += indented(dict(islice(value.items(), SHOWN_BUCKETS)))
            if len(value) > SHOWN_BUCKETS:
                lines.append(("  others", sum(islice(value.values(), SHOWN_BUCKETS, None))))
        print_columns(str(self.folder), lines)


def _print_sources(path: Path, seen: list[dict[str, Any]], samples: int) -> None:
    """What a run sees of each source of a mixture."""
    rows: list[tuple[str, ...]] = [("task", "source", "samples", "share", "seen", "passes")]
    for each in seen:
        numbers = (f"{each['samples']:,}", f"{each['share']:.2%}", f"{each['seen']:,}")
        rows.append((each["task"], each["source"], *numbers, f"{each['passes']:.2f}"))
    print_result(f"{path}: a run of {samples:,} samples sees")
    for line in aligned(rows):
        print_result(f"  {line}")
