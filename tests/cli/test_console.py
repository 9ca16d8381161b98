from __future__ import annotations

import pytest

from deepgen.cli.console import print_line


def test_a_line_shows_control_characters_instead_of_sending_them_to_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_line("no \x1b[2J\x9b1m file\x07\nänd 图 \x00")
    assert capsys.readouterr().err == "no \\x1b[2J\\x9b1m file\\x07 änd 图 \\x00\n"
