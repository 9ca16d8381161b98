"""What keeps a run's scores from being results, or from being comparable with others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from deepgen.eval.benchmark import Benchmark


def report_warnings(report: Mapping[str, Any], benchmark: Benchmark) -> Iterator[tuple[str, str]]:
    """A short title and a text for each, the most serious first."""
    images, manifest = report["images"], report["run"]
    if report["state"] != "done":
        yield (
            "Not done.",
            f"{images['generated']:,} of {images['expected']:,} images are generated and "
            f"{images['evaluated']:,} are evaluated. These are not results.",
        )
    elif report["incomplete"]:
        yield (
            "Incomplete.",
            f"Only {report['coverage']:.1%} of the images have a score, so there is no overall "
            "score. An image that could not be scored counts as failed, never as zero.",
        )
    elif report["rules"]["strict"]["overall"] is None:
        yield (
            "No overall score.",
            "It is a mean over categories, and some have no prompt or no score in this run.",
        )
    if report["subset"]:
        yield (
            "A subset.",
            f"{report['prompts']:,} prompts of {benchmark.expected_items:,}: not comparable with "
            "scores over all of them.",
        )
    preset = manifest["settings"].get("preset")
    if preset is None:
        yield "Settings unknown.", "The run does not record its generation settings."
    elif preset != "paper" and benchmark.render_sources is None:
        yield (
            "Not the published settings.",
            "Images were generated with the model's own size, steps and guidance, not those of the "
            "DeepGen paper (preset \u201cpaper\u201d).",
        )
    if images["evaluated"] and not report["scorer"]:
        yield ("Scorer unknown.", "The run does not record its scorer.")
    reasons = [table["not_comparable"] for table in report["published"]["tables"]]
    if report["scorer"] and reasons and all(reasons):
        yield (
            "Not comparable with published scores.",
            " ".join(dict.fromkeys(reasons)),
        )
    for note in report["notes"]:
        yield "Note.", note
