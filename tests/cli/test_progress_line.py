from io import StringIO

from rich.console import Console

from deepgen.cli.progress_line import ProgressLine


def drawn(*, is_terminal: bool, done: int = 40) -> str:
    out = StringIO()
    line = ProgressLine(Console(file=out, force_terminal=is_terminal, width=120))
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


def test_without_a_terminal_only_resuming_is_reported() -> None:
    assert drawn(is_terminal=False).strip() == "resuming from step 40/100"
    assert drawn(is_terminal=False, done=0).strip() == ""
    assert drawn(is_terminal=False, done=100).strip() == ""


def test_a_run_that_never_began_can_end() -> None:
    ProgressLine(Console(file=StringIO(), force_terminal=True)).end()
