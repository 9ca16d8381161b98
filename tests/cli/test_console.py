from __future__ import annotations

import pytest

from deepgen.cli.console import aligned, print_line


def test_a_line_shows_control_characters_instead_of_sending_them_to_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_line("no \x1b[2J\x9b1m file\x07\nänd 图 \x00")
    assert capsys.readouterr().err == "no \\x1b[2J\\x9b1m file\\x07 änd 图 \\x00\n"


def test_columns_of_whole_numbers_fractions_and_percentages_are_aligned_to_the_right() -> None:
    rows = [("source", "samples", "share"), ("a", "1,200", "5.00%"), ("long name", "3", "95.00%")]
    assert aligned(rows) == [
        "source     samples   share",
        "a            1,200   5.00%",
        "long name        3  95.00%",
    ]
