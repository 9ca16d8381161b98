from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzzing import TARGETS, run_case

CASES = {"images": 300, "yaml": 100, "configurations": 150, "tables": 200}

FOUND = {"tables": (19447, 33387)}
"""Seeds beyond those, where a fault was found: a Parquet file that ended the process."""


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_input_is_read_or_refused_in_one_line(name: str, tmp_path: Path) -> None:
    seeds = (*range(CASES.get(name, 300)), *FOUND.get(name, ()))
    found = [(seed, run_case(name, seed, tmp_path)) for seed in seeds]
    assert [each for each in found if each[1] is not None] == []
