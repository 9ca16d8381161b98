from __future__ import annotations

import logging

import pytest

from deepgen.cli.main import main
from deepgen.library_logs import libraries_quiet


def test_commands_keep_quiet_about_kernels_that_optional_libraries_miss(
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logger = logging.getLogger("torchao.kernel")

    def says(level: int) -> bool:
        caplog.clear()
        logger.log(level, "no kernel")
        return bool(caplog.records)

    # As in a new process: commands that ran in this one have set it.
    monkeypatch.setattr(logging.getLogger("torchao"), "level", logging.NOTSET)
    # The levels of before come back afterwards.
    with libraries_quiet():
        logging.getLogger("torchao").setLevel(logging.NOTSET)
        assert says(logging.WARNING)
        assert main(["eval", "list"]) == 0
        assert not says(logging.WARNING)
        assert says(logging.ERROR)
    assert says(logging.WARNING)
