from pathlib import Path

import pytest

from deepgen.train.monitor.replacements import ReplacementLog

ONE = {"step": 1, "sample_id": "a", "message": "a is not an image"}
OTHER = {"step": 4, "sample_id": "b", "message": "b is not an image"}


def test_what_was_noted_is_read_by_the_next_start_and_noted_once(tmp_path: Path) -> None:
    first = ReplacementLog(tmp_path / "replacements.jsonl")
    assert first.read() == []
    first.note([ONE])
    second = ReplacementLog(tmp_path / "replacements.jsonl")
    assert second.read() == [ONE]
    second.note([ONE, OTHER])
    assert ReplacementLog(tmp_path / "replacements.jsonl").read() == [ONE, OTHER]


def test_a_line_that_was_cut_off_is_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "replacements.jsonl"
    ReplacementLog(path).note([ONE])
    path.write_text(path.read_text() + '{"step": 4, "sam')
    log = ReplacementLog(path)
    assert log.read() == [ONE]
    log.note([OTHER])
    assert ReplacementLog(path).read() == [ONE, OTHER]


def test_a_log_of_replacements_that_cannot_be_written_costs_its_lines_only(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="cannot be written"):
        ReplacementLog(tmp_path / "nowhere" / "replacements.jsonl").note([ONE])
