from __future__ import annotations

import errno
import json
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from gpu import run
from gpu.plan import Context, Plan, Row, Task
from gpu.record import Record
from gpu.run import ALL_DONE, CANNOT_START, ROWS_FAILED, ROWS_LEFT, open_device, run_plan


def task(name: str, action: Callable[[Context], Row] | None = None, **values: Any) -> Task:
    return Task(name=name, run=action or (lambda context: {"value": 1}), seconds=10, **values)


def start(
    folder: Path, *tasks: Task, seconds: float = 100.0, toy: bool = False, device: str = "cpu"
) -> int:
    plan = Plan(name="example", tasks=tasks)
    record = Record(folder / "record.json", plan.name, [each.name for each in tasks])
    record.start({"machine": "test"})
    context = Context(
        device=torch.device(device),
        toy=toy,
        folder=folder,
        golden=None,
        renders=None,
        deadline=time.monotonic() + seconds,
    )
    return run_plan(plan, context, record)


def read(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "record.json").read_text())
    return content


def fail(context: Context) -> Row:
    raise RuntimeError("no luck\nat all")


def test_every_task_fills_its_row(tmp_path: Path) -> None:
    assert start(tmp_path, task("a"), task("b")) == ALL_DONE
    record = read(tmp_path)
    assert record["state"] == "complete"
    assert {name: row["result"] for name, row in record["rows"].items()} == {
        "a": {"value": 1},
        "b": {"value": 1},
    }


def test_an_error_becomes_one_line_of_its_row_and_the_next_task_runs(tmp_path: Path) -> None:
    assert start(tmp_path, task("a", fail), task("b")) == ROWS_FAILED
    rows = read(tmp_path)["rows"]
    assert (rows["a"]["state"], rows["a"]["error"]) == ("failed", "RuntimeError: no luck")
    assert rows["b"]["state"] == "done"
    assert "Traceback" in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize("value", [float("nan"), torch.ones(1)])
def test_a_result_that_json_cannot_hold_fails_its_own_row_only(tmp_path: Path, value: Any) -> None:
    assert start(tmp_path, task("a", lambda context: {"value": value}), task("b")) == ROWS_FAILED
    assert read(tmp_path)["rows"]["a"]["state"] == "failed"


def test_a_second_start_runs_only_what_is_left_and_failures_last(tmp_path: Path) -> None:
    start(tmp_path, task("a"), task("b", fail), seconds=15)
    order: list[str] = []

    def note(name: str) -> Callable[[Context], Row]:
        return lambda context: {"place": order.append(name)}

    tasks = [task(name, note(name)) for name in ("a", "b", "c")]
    assert start(tmp_path, *tasks) == ALL_DONE
    assert order == ["c", "b"]
    assert [row["start"] for row in read(tmp_path)["rows"].values()] == [0, 1, 1]


def test_a_task_that_does_not_fit_into_the_time_left_waits_for_the_next_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start(tmp_path, task("a"), seconds=9) == ROWS_LEFT
    assert read(tmp_path)["rows"] == {}
    assert "0 of 1 rows" in capsys.readouterr().out


def test_a_task_in_parts_is_called_again_until_it_is_done(tmp_path: Path) -> None:
    rows = iter([{"state": "part", "steps": 1}, {"steps": 2}])
    again = task("a", lambda context: next(rows))
    assert start(tmp_path, again) == ROWS_LEFT
    assert read(tmp_path)["rows"]["a"]["result"] == {"steps": 1}
    assert start(tmp_path, again) == ALL_DONE
    assert read(tmp_path)["rows"]["a"]["result"] == {"steps": 2}


def test_a_row_that_was_cut_off_is_marked_and_run_again(tmp_path: Path) -> None:
    def interrupt(context: Context) -> Row:
        running = read(tmp_path)["rows"]["b"]["state"]
        assert running == "running"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(tmp_path, task("a"), task("b", interrupt))
    assert read(tmp_path)["rows"]["b"]["state"] == "cut off"
    # As a kill leaves it.
    content = read(tmp_path)
    content["rows"]["b"]["state"] = "running"
    (tmp_path / "record.json").write_text(json.dumps(content))
    assert Record(tmp_path / "record.json", "example", ["a", "b"]).state_of("b") == "cut off"
    assert start(tmp_path, task("a", fail), task("b")) == ALL_DONE


def test_a_full_disk_ends_the_run_and_keeps_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(context: Context) -> Row:
        raise OSError(errno.ENOSPC, "No space left on device")

    plan = Plan(name="check", tasks=(task("a"), task("b", full)))
    monkeypatch.setattr(run, "load_plan", lambda name: plan)
    assert run.main(["check", "--out", str(tmp_path), "--toy"]) == CANNOT_START
    assert capsys.readouterr().err.startswith("error: no space left for")
    assert read(tmp_path / "check")["rows"]["a"]["state"] == "done"


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_without_a_gpu_a_plan_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.main(["check", "--out", str(tmp_path)]) == CANNOT_START
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "needs an NVIDIA GPU" in lines[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 0, "plan": "check", "starts": []}'])
def test_a_file_that_is_no_record_is_refused_and_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    (tmp_path / "check").mkdir()
    path = tmp_path / "check" / "record.json"
    path.write_text(text)
    assert run.main(["check", "--out", str(tmp_path), "--toy"]) == CANNOT_START
    assert "record.json" in capsys.readouterr().err
    assert path.read_text() == text


def test_a_task_must_fit_into_one_start() -> None:
    with pytest.raises(ValueError, match="split it"):
        Task(name="a", run=lambda context: {}, seconds=1000)


@pytest.mark.parametrize(
    "reason",
    [
        "The NVIDIA driver on your system is too old (found version 11040). Please update it",
        "CUDA error: no kernel image is available for execution on the device\nCUDA kernel errors",
    ],
)
def test_a_gpu_that_cannot_compute_is_refused_in_one_line(
    reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*sizes: int, **options: Any) -> None:
        raise RuntimeError(reason)

    monkeypatch.setattr(torch, "ones", refuse)
    with pytest.raises(ValueError, match=re.escape(reason.splitlines()[0])) as caught:
        open_device("cuda")
    assert "\n" not in str(caught.value)


def test_a_task_that_needs_more_memory_than_the_gpu_has_is_not_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (10 * 2**30, 12 * 2**30))
    for name in ("reset_peak_memory_stats", "empty_cache"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    tried: list[str] = []

    def note(context: Context) -> Row:
        return {"count": tried.append("small")}

    code = start(tmp_path, task("large", fail, gib=11), task("small", note, gib=9), device="cuda")
    assert (code, tried) == (ROWS_FAILED, ["small"])
    assert read(tmp_path)["rows"]["large"]["error"] == (
        "MemoryError: needs 11 GiB of GPU memory; 10.0 of 12.0 are free"
    )


def test_running_out_of_gpu_memory_is_one_line(tmp_path: Path) -> None:
    def exhaust(context: Context) -> Row:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.\nGPU 0 has")

    assert start(tmp_path, task("a", exhaust)) == ROWS_FAILED
    assert read(tmp_path)["rows"]["a"]["error"] == (
        "out of GPU memory: CUDA out of memory. Tried to allocate 9 GiB."
    )


def test_a_task_that_overruns_is_marked_and_ended_with_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()
    found: list[Any] = []

    def leave(code: int) -> None:
        found.append((code, read(tmp_path)["rows"]["a"]["state"]))
        ended.set()

    monkeypatch.setattr(run, "GRACE_SECONDS", 0.0)
    monkeypatch.setattr(os, "_exit", leave)
    start(tmp_path, task("a", lambda context: {"ended": ended.wait(10)}), seconds=0.01, toy=True)
    assert found == [(ROWS_LEFT, "cut off")]
