"""Who judged the images of a run: one scorer per run, written down before its first record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from deepgen.errors import BenchmarkError
from deepgen.eval.run.folder import RunFolder

SCORER = "scorer.json"


def read_judge(path: Path) -> dict[str, str]:
    """What is known of the scorer of a run; empty where nothing was scored yet.

    Raises:
        BenchmarkError: The file is damaged.
    """
    file = path / SCORER
    try:
        identity = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(identity, dict):
            raise ValueError(f"found {type(identity).__name__}, expected an object")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as cause:
        raise BenchmarkError(
            f"{file} is not what deepgen wrote ({cause}); delete it and the scores beside it, and "
            "score again"
        ) from None
    return {str(name): str(value) for name, value in identity.items()}


def claim(folder: RunFolder, identity: Mapping[str, str]) -> None:
    """Have this scorer judge the run, or see that it is the one that does.

    Raises:
        BenchmarkError: Another one has begun.
    """
    wanted = dict(identity)
    folder.write_first(SCORER, json.dumps(wanted, indent=1, sort_keys=True) + "\n")
    found = read_judge(folder.path)
    different = unlike(found, wanted)
    if different:
        raise BenchmarkError(
            f"{folder.path} was scored with {different}; to score it anew, delete {SCORER} and "
            "scores.jsonl in it, the images stay"
        )


def unlike(first: Mapping[str, str], second: Mapping[str, str]) -> str:
    """How two scorers differ, in words; empty where they do not."""
    names = sorted(first.keys() | second.keys())
    return ", ".join(
        f"{name} {first.get(name, 'unsaid')}, not {second.get(name, 'unsaid')}"
        for name in names
        if first.get(name) != second.get(name)
    )
