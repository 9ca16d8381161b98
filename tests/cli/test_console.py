from __future__ import annotations

import pytest

from deepgen.cli.console import ProgressLines, aligned, print_line, progress_bar


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


def test_the_time_left_says_nothing_of_a_first_step_that_compiles() -> None:
    times, said = iter([0.0, 100.0, 101.0, 102.0, 103.0]), list[str]()
    lines = ProgressLines(
        "",
        20,
        counted=False,
        first_is_slow=True,
        clock=times.__next__,
        write=said.append,
        seconds=2.0,
    )
    with progress_bar("image 1 of 1", 20, lines=lines) as advance:
        for _ in range(4):
            advance()
    assert said == ["image 1 of 1, 17 s left"]
