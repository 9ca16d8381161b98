"""The scorer of a run: one per run, written to ``scorer.json`` before its first record."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from deepgen.config.decoding import decode
from deepgen.errors import BenchmarkError
from deepgen.eval.run.folder import RunFolder
from deepgen.reading import read_json

SCORER = "scorer.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunScorer:
    """What scored a run."""

    identity: Mapping[str, str] = field(default_factory=dict)
    """Everything that tells two scorers apart; empty where nothing was scored yet."""
    notes: Sequence[str] = ()
    """For readers of a report; those of the process that scored the first image."""


def read_scorer(path: Path) -> RunScorer:
    """The scorer of a run, as its folder has it.

    Raises:
        BenchmarkError: The file is damaged.
    """
    file = path / SCORER
    try:
        return decode(RunScorer, read_json(file))
    except FileNotFoundError:
        return RunScorer()
    except (OSError, ValueError) as cause:
        raise BenchmarkError(
            f"{file} is not what deepgen wrote ({cause}); delete it and the scores beside it, and "
            "score again"
        ) from None


def set_scorer(folder: RunFolder, identity: Mapping[str, str], notes: Sequence[str] = ()) -> None:
    """Make this the scorer of the run, or see that it already is.

    Raises:
        BenchmarkError: Another scorer has begun.
    """
    scorer = RunScorer(identity=dict(identity), notes=list(notes))
    folder.write_first(SCORER, json.dumps(asdict(scorer), indent=1, sort_keys=True) + "\n")
    difference = scorer_difference(read_scorer(folder.path).identity, identity)
    if difference:
        raise BenchmarkError(
            f"{folder.path} was scored with {difference}; to score it again, delete {SCORER} and "
            "scores.jsonl in it, the images stay"
        )


def scorer_difference(first: Mapping[str, str], second: Mapping[str, str]) -> str:
    """How two scorers differ, in words; empty where they do not."""
    names = sorted(first.keys() | second.keys())
    return ", ".join(
        f"{name} {first.get(name, 'not recorded')}, not {second.get(name, 'not recorded')}"
        for name in names
        if first.get(name) != second.get(name)
    )
