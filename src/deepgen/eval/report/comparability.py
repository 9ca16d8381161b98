"""Whether the scores of a run may stand beside a published table.

A number belongs to a benchmark, a protocol and a judge together. Tables are chosen by benchmark and
protocol (``published.py``); here is the judge, and the words in which it was asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

OWN_WORDS = "own words"
"""Origin of questions that are ours, and not the authors'."""
ROLES = ("judge", "vqa", "detector", "detections", "ocr", "reader")
"""Under which names ``scorer.json`` has who looked at the images, whatever the benchmark."""


def obstacle(judged_by: Mapping[str, str], judge: str, accepted: Sequence[str]) -> str:
    """Why a run's scores may not be compared with a table's, as a sentence; empty where they may.

    Args:
        judged_by: Everything that tells the run's scorer apart, as ``scorer.json`` has it.
        judge: Who judged there, in words.
        accepted: Patterns of the names under which that judge is known here.
    """
    if judged_by.get("questions") == OWN_WORDS:
        return "The judge was asked in our own words, not in the authors'."
    if not judged_by:
        return "The run does not say who judged."
    everything = ", ".join(f"{name} {value}" for name, value in judged_by.items())
    here = next((judged_by[role] for role in ROLES if role in judged_by), everything)
    # Some servers put the maker before the name of a model.
    names = (here.lower(), here.lower().rpartition("/")[2])
    if any(fnmatchcase(name, pattern) for name in names for pattern in accepted):
        return ""
    return f"Judged here by {here}, and there by another: {judge}."
