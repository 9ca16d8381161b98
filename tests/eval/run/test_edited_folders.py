"""Runs whose files somebody has edited by hand: one line says which, and where."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deepgen.errors import BenchmarkError
from deepgen.eval.report.results import describe
from tests.eval.report.test_results import draw_and_judge, stored


@pytest.mark.parametrize(
    ("name", "change", "part"),
    [
        ("images.jsonl", {"path": 5}, "images.jsonl, line 1: .*path: .*found 5"),
        ("images.jsonl", {"item": ["a"]}, r"images.jsonl, line 1: .*item: .*found \['a'\]"),
        ("images.jsonl", {"other": 1}, "images.jsonl, line 1: .*unknown other"),
        ("run.json", {"limit": "x"}, "run.json .*limit: .*found 'x'"),
        ("run.json", {"benchmark": None}, "run.json .*benchmark: .*found None"),
        ("run.json", {"rule": {"images_per_item": []}}, "run.json .*rule.images_per_item: "),
        ("run.json", {"versions": 5}, "run.json .*versions: "),
        ("scorer.json", {"identity": ["a"]}, "scorer.json .*identity: "),
        ("scores.jsonl", {"item": ["a"]}, "scores.jsonl, line 2: .*item: "),
        ("scores.jsonl", {"sha256": 5}, "scores.jsonl, line 2: .*sha256"),
        ("scores.jsonl", {"values": 5}, "scores.jsonl, line 2: .*values: "),
        ("scores.jsonl", {"values": {}}, "values of item .* are not those of a scorer of geneval"),
    ],
)
def test_a_folder_edited_by_hand_is_refused_by_file_and_line(
    name: str, change: dict[str, object], part: str, tmp_path: Path
) -> None:
    draw_and_judge(tmp_path, right=4)
    (tmp_path / "scorer.json").write_text('{"identity": {}, "notes": []}')
    file = tmp_path / name
    whole = file.read_text()
    first = whole.split("\n{")[0] if name == "images.jsonl" else whole
    if name == "scores.jsonl":
        # Each record begins with its line break.
        first = whole.splitlines()[1]
    file.write_text(whole.replace(first, json.dumps(json.loads(first) | change), 1))
    with pytest.raises(BenchmarkError, match=part):
        describe(stored(tmp_path), "now")
