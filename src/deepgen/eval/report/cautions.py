"""What keeps the scores of a run from being a result, or from being compared with others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from deepgen.eval.benchmark import Benchmark


def cautions(report: Mapping[str, Any], benchmark: Benchmark) -> Iterator[tuple[str, str]]:
    """A few words and a sentence for each, the gravest first."""
    images, made = report["images"], report["made"]
    if report["state"] != "done":
        yield (
            "Not done.",
            f"{images['drawn']:,} of {images['expected']:,} images are drawn and "
            f"{images['judged']:,} are judged. These are no results.",
        )
    elif report["incomplete"]:
        yield (
            "Incomplete.",
            f"Only {report['coverage']:.1%} of the images have a score, so there is no headline. "
            "An image that could not be judged is failed, and never zero.",
        )
    elif report["rules"]["strict"]["headline"] is None:
        yield (
            "No headline.",
            "It is a mean over categories, and some of them have no prompt or no score here.",
        )
    if report["subset"]:
        yield (
            "A subset.",
            f"{report['prompts']:,} prompts of {benchmark.expected_items:,}: not to be compared "
            "with scores over all of them.",
        )
    preset = made["how"].get("preset")
    if preset is None:
        yield "Settings unknown.", "The run does not say with which settings it was drawn."
    elif preset != "paper" and benchmark.draw_sources is None:
        yield (
            "Not the published settings.",
            "Images were drawn with the model's own size, steps and guidance, and not as for the "
            "DeepGen paper (preset \u201cpaper\u201d).",
        )
    if report["images"]["judged"] and not report.get("judged_by"):
        yield ("Judge unknown.", "The run does not say who judged its images.")
    obstacles = [table["obstacle"] for table in report["published"]["tables"]]
    if report.get("judged_by") and obstacles and all(obstacles):
        yield (
            "Not to be compared with published scores.",
            " ".join(dict.fromkeys(obstacles)),
        )
    for note in report["notes"]:
        yield "To be read with it.", note
