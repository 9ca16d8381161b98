import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from deepgen.train.monitor.metrics import MetricsLog


class Listener:
    def __init__(self, *, fails_at: int | None = None) -> None:
        self.heard: list[Any] = []
        self.fails_at = fails_at

    def begin(self, done: int, steps: int) -> None:
        self.heard.append(("begin", done, steps))

    def on_step_end(self, step: int, report: Mapping[str, float]) -> None:
        if step == self.fails_at:
            raise ConnectionError("the network is gone")
        self.heard.append((step, dict(report)))

    def logged(self, step: int, line: Mapping[str, float]) -> None:
        self.heard.append(("line", dict(line)))

    def end(self) -> None:
        self.heard.append("end")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_in_the_mean_of_a_kind_every_sample_counts_alike(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "log", 2)
    log.add(1, {"loss": 1.0}, {"loss/edit": (6.0, 3)})
    log.add(2, {"loss": 2.0}, {"loss/edit": (10.0, 1), "loss/t2i": (5.0, 1)})
    log.write(2, {"steps_per_second": 3.0})
    log.add(3, {"loss": 9.0})
    log.write(4, {})
    first, second = lines(tmp_path / "log")
    assert first == {
        "step": 2,
        "loss": 1.5,
        "loss/edit": 4.0,
        "loss/t2i": 5.0,
        "speed": {"steps_per_second": 3.0},
    }
    assert second == {"step": 4, "loss": 9.0, "speed": {}}


def test_onlookers_hear_everything_in_order_with_flat_names(tmp_path: Path) -> None:
    listener = Listener()
    log = MetricsLog(tmp_path / "log", 1, [listener])
    log.begin(4, 9)
    log.add(5, {"loss": 1.0})
    log.write(5, {"time": {"data": 0.5}})
    log.end()
    assert listener.heard == [
        ("begin", 4, 9),
        (5, {"loss": 1.0}),
        ("line", {"loss": 1.0, "speed/time/data": 0.5}),
        "end",
    ]


def test_an_onlooker_that_fails_is_named_once_and_left_out(tmp_path: Path) -> None:
    failing, other = Listener(fails_at=1), Listener()
    log = MetricsLog(tmp_path / "log", 1, [failing, other])
    with pytest.warns(UserWarning, match=r"Listener has failed \(the network is gone\)") as seen:
        for step in (1, 2, 3):
            log.add(step, {"loss": 1.0})
            log.write(step, {})
    assert len(seen) == 1
    assert failing.heard == []
    assert len(other.heard) == 6
    assert len(lines(tmp_path / "log")) == 3


def test_totals_go_on_where_the_checkpoint_left_them(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "log", 2)
    assert (log.count("replaced", 2), log.count("replaced", 3)) == (0, 2)
    log.add(1, {"loss": 1.0}, {"loss/edit": (6.0, 3)})
    state = json.loads(json.dumps(log.state()))
    log.count("replaced", 90)
    log.write(2, {})
    again = MetricsLog(tmp_path / "log", 2)
    again.resume(1, state)
    again.add(2, {"loss": 3.0})
    again.write(2, {})
    line = {"step": 2, "loss": 2.0, "loss/edit": 2.0, "replaced": 5, "speed": {}}
    assert lines(tmp_path / "log") == [line]
