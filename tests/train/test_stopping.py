from __future__ import annotations

import os
import signal

import pytest

from deepgen.train import stopping
from deepgen.train.stopping import SIGNALS, handling_signals


def test_it_is_asked_by_batch_systems_and_keyboards() -> None:
    assert set(SIGNALS) == {signal.SIGTERM, signal.SIGINT, signal.SIGUSR1}


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_is_answered_once_and_a_later_one_acts_as_before(
    number: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise InterruptedError

    noted: list[None] = []
    before = signal.signal(number, interrupt)
    try:
        with pytest.raises(InterruptedError), handling_signals(lambda: noted.append(None)):
            os.kill(os.getpid(), number)
            # What torchrun passes on of the same.
            os.kill(os.getpid(), number)
            said = capfd.readouterr().err
            assert said.startswith("stopping after this step; a checkpoint will be written")
            assert said.count("\n") == 1 and len(noted) == 2
            monkeypatch.setattr(stopping, "ECHO_SECONDS", 0.0)
            os.kill(os.getpid(), number)
    finally:
        signal.signal(number, before)
    assert capfd.readouterr().err == ""


def test_of_several_processes_only_the_first_answers(capfd: pytest.CaptureFixture[str]) -> None:
    noted: list[None] = []
    with handling_signals(lambda: noted.append(None), answers=False):
        os.kill(os.getpid(), signal.SIGTERM)
    assert noted and capfd.readouterr().err == ""
