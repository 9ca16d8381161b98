import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deepgen.train.monitor.loggers import open_loggers
from deepgen.train.monitor.metrics import MetricsLog, Observer


def watch(observers: list[Observer], folder: Path, steps: range) -> None:
    log = MetricsLog(folder / "metrics.jsonl", 1, observers)
    log.begin(steps.start, 9)
    for step in steps:
        log.add(step + 1, {"loss": 1 / (step + 1)}, {"loss/edit": (4.0, 2)})
        log.write(step + 1, {"mfu": 0.25})
    log.end()


def test_tensorboard_has_every_mean_and_hides_what_a_cut_run_had_more(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for steps in (range(4), range(4), range(2, 6)):
        watch(open_loggers(["tensorboard"], tmp_path, {}), tmp_path, steps)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {"loss", "loss/edit", "speed/mfu"}
    losses = {each.step: each.value for each in events.Scalars("loss")}
    assert losses == pytest.approx({step: 1 / step for step in range(1, 7)})
    assert len(events.Scalars("loss")) == 6
    assert {each.value for each in events.Scalars("speed/mfu")} == {0.25}


class FakeRun:
    """Takes what the real package takes, and nothing else."""

    def __init__(self, **options: Any) -> None:
        assert options.pop("resume") == "allow"
        self.options = options
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.is_over = False

    def log(self, values: dict[str, float], *, step: int) -> None:
        self.logged.append((step, values))

    def finish(self) -> None:
        self.is_over = True


def test_a_run_taken_up_again_is_one_run_of_wandb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[FakeRun] = []

    def init(**options: Any) -> FakeRun:
        runs.append(FakeRun(**options))
        return runs[-1]

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    for steps in (range(4), range(2, 6), range(6)):
        watch(open_loggers(["wandb"], tmp_path, {"steps": 9}), tmp_path, steps)
    first, second, anew = runs
    assert anew.options["id"] != first.options["id"]
    assert first.options == second.options
    assert first.options["name"] == tmp_path.name
    assert first.options["config"] == {"steps": 9}
    assert [step for step, _ in second.logged] == [3, 4, 5, 6]
    assert first.logged[0][1] == {"loss": 1.0, "loss/edit": 2.0, "speed/mfu": 0.25}
    assert first.is_over and second.is_over


def test_a_logger_that_cannot_even_begin_is_named_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**options: Any) -> None:
        raise ConnectionError("no server")

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    loggers = open_loggers(["wandb", "tensorboard", "wandb"], tmp_path, {})
    assert len(loggers) == 2
    with pytest.warns(UserWarning, match=r"Wandb has failed \(no server\)") as seen:
        watch(loggers, tmp_path, range(2))
    assert len(seen) == 1
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2
    assert any((tmp_path / "tensorboard").iterdir())
