"""How well MiniBench's scorer reads images of which everything is known.

``python -m deepgen.eval.benchmarks.minibench.accuracy`` prints, as JSON, the fraction of true
renderings that it calls right in every row, how often it says *none* of junk, and how often it
calls the image of another sample right: rightly so only where both ask for the same. Needs the
extra ``[mini]``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from deepgen.eval.benchmarks.minibench.benchmark import (
    MINIBENCH,
    MINIBENCH_VERSION0,
    load_version0,
    wanted,
)
from deepgen.eval.benchmarks.minibench.judging import Verdict, judge, judge_untouched
from deepgen.eval.benchmarks.minibench.rows import ROWS, Row
from deepgen.mini.reader.objects import SHIPPED
from deepgen.mini.reader.scenes import SceneReader, load_scene_reader
from deepgen.mini.reader.training import measure_junk
from deepgen.mini.world import version0
from deepgen.mini.world.drawing import draw, kept
from deepgen.mini.world.sampling import Sample, sample
from deepgen.mini.world.scene import BACKGROUNDS

SAMPLES = 400
JUNK = 501
CANVASES = ((128, 128), (64, 64))
WRONG_SHOWN = 12


def measure_row(
    row: Row, reader: SceneReader, canvas: tuple[int, int], count: int = SAMPLES
) -> dict[str, Any]:
    """Judge true renderings of a row's samples, and each sample on the image of the next."""
    return _measure(row, [_bench(row, index, canvas) for index in range(count)], reader)


def measure_version0(reader: SceneReader, count: int = SAMPLES) -> dict[str, dict[str, Any]]:
    """The same of the rows that ask for the first model's world."""
    items = load_version0(Path()).items
    return {
        row: _measure(
            "single object",
            [wanted(item) for item in items if item.category == row][:count],
            reader,
        )
        for row in version0.BENCH_ROWS
    }


def _measure(row: Row, samples: Sequence[Sample], reader: SceneReader) -> dict[str, Any]:
    count = len(samples)
    outcomes: Counter[str] = Counter()
    wrong = []
    for each in samples:
        verdict = _verdict(row, each, draw(each.target), reader)
        outcomes[verdict.outcome] += 1
        if verdict.outcome != "ok":
            wrong.append(f"{each.kind}: {verdict.reason}")
    strangers = zip(samples, [*samples[1:], samples[0]], strict=True)
    mistaken = sum(
        _verdict(row, each, draw(other.target), reader).outcome == "ok" for each, other in strangers
    )
    return {
        "samples": count,
        "right": outcomes["ok"] / count,
        "failed": outcomes["failed"],
        "another sample's image called right": mistaken / count,
        "wrong": wrong[:WRONG_SHOWN],
    }


def measure_scorer(
    reader: SceneReader, count: int = SAMPLES, junk: int = JUNK
) -> dict[str, dict[str, Any]]:
    """All rows on all canvases, and junk."""
    result: dict[str, dict[str, Any]] = {
        f"{canvas[0]} px": {row: measure_row(row, reader, canvas, count) for row in ROWS}
        for canvas in CANVASES
    }
    result[MINIBENCH_VERSION0.name] = measure_version0(reader, count)
    return result | {"junk called none": measure_junk(reader.classifier, count=junk)}


def condense(result: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """The fraction of true renderings called right, by benchmark, size and row: for reports."""
    sizes = [f"{height} px" for height, _ in CANVASES]
    return {
        MINIBENCH.name: {size: _shares(result[size]) for size in sizes},
        MINIBENCH_VERSION0.name: {f"{version0.SIDE} px": _shares(result[MINIBENCH_VERSION0.name])},
    }


def _shares(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    return {row: found["right"] for row, found in rows.items()}


def _bench(row: Row, index: int, canvas: tuple[int, int]) -> Sample:
    kinds = ROWS[row]
    return sample(index // len(kinds), "bench", kind=kinds[index % len(kinds)], canvas=canvas)


def _verdict(row: Row, wanted: Sample, image: Image.Image, reader: SceneReader) -> Verdict:
    if row == "edits: untouched region kept":
        source = wanted.sources[0]
        return judge_untouched(draw(source), image, kept(source, wanted.target))
    return judge(row, wanted, reader.read(image))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reader", type=Path, default=SHIPPED)
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--save", action="store_true", help="put the fractions beside the reader")
    arguments = parser.parse_args()
    reader = load_scene_reader(BACKGROUNDS, arguments.reader)
    result = measure_scorer(reader, arguments.samples)
    if arguments.save:
        text = json.dumps(condense(result), indent=1) + "\n"
        (arguments.reader / "accuracy.json").write_text(text, encoding="utf-8")
    sys.stdout.write(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
