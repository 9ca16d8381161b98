from io import StringIO
from itertools import count
from pathlib import Path

from rich.console import Console

from deepgen.cli.progress_line import ProgressLine


def drawn(*, is_terminal: bool, done: int = 40) -> str:
    out, clock = StringIO(), count(0.0, 40.0)
    line = ProgressLine(
        Path("runs/a"), Console(file=out, force_terminal=is_terminal, width=120), clock.__next__
    )
    line.begin(done, 100)
    for step in (41, 42):
        line.on_step_end(step, {"loss": 0.5 / step, "skipped": 0.0})
    line.logged(42, {"speed/images_per_second": 12.34, "speed/data_wait": 0.021})
    line.on_step_end(43, {"skipped": 1.0})
    line.end()
    return out.getvalue()


def test_on_a_terminal_one_line_has_step_loss_speed_waiting_and_time_left() -> None:
    text = drawn(is_terminal=True)
    for part in (
        "resuming from step 40/100",
        "43/100",
        "loss 0.0119",
        "12.3 images/s",
        "data wait 2%",
        "left",
    ):
        assert part in text


def test_without_a_terminal_there_is_a_line_a_minute_with_the_time_left() -> None:
    # The clock of this test moves by 40 seconds with every step.
    assert drawn(is_terminal=False).splitlines() == [
        "resuming from step 40/100; checkpoints and metrics in runs/a",
        "step 42/100, loss 0.0119, 38 min 40 s left",
    ]
    begun = drawn(is_terminal=False, done=0).splitlines()[0]
    assert begun == "training to step 100; checkpoints and metrics in runs/a"


def test_a_finished_run_does_not_announce_training() -> None:
    first = drawn(is_terminal=False, done=100).splitlines()[0]
    assert first == "all 100 steps are done; the run is in runs/a"


def test_a_run_that_never_began_can_end() -> None:
    ProgressLine(Path("runs/a"), Console(file=StringIO(), force_terminal=True)).end()
