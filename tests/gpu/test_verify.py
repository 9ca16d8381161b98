from __future__ import annotations

import pytest
import torch
from gpu import verify, verify_inference
from gpu.plan import Context, Plan, Task
from gpu.record import FILE, Record
from gpu.result import bounded, described, goal, largest_error, relative_error
from gpu.run import run_plan


def test_a_row_outside_its_bounds_fails_and_keeps_its_figures(context: Context) -> None:
    rows = {
        name: bounded({"error": found}, {"error": 0.1})
        for name, found in (("close", 0.1), ("far", 0.2), ("broken", float("inf")))
    }
    tasks = tuple(
        Task(name=name, run=lambda context, row=row: row, seconds=1) for name, row in rows.items()
    )
    plan = Plan(name="verify", tasks=tasks)
    record = Record(context.folder / FILE, "verify", list(rows))
    record.start({})
    assert run_plan(plan, context, record) == 1
    assert [record.state_of(name) for name in rows] == ["done", "failed", "failed"]
    assert record.rows["far"]["result"]["figures"]["error"] == {"found": 0.2, "bound": 0.1}
    assert record.rows["broken"]["result"]["figures"]["error"]["found"] == "not finite"


def test_without_reference_numbers_their_rows_say_so(context: Context) -> None:
    task = next(each for each in verify.PLAN.tasks if each.name == "golden_dit")
    with pytest.raises(ValueError, match=r"needs the reference numbers; .* --golden"):
        task.run(context)


def test_errors_are_relative_and_of_one_shape() -> None:
    true = torch.tensor([3.0, -4.0])
    assert largest_error(true + torch.tensor([0.0, 1.0]), true) == 0.25
    assert relative_error(true + torch.tensor([0.0, 1.0]), true) == pytest.approx(0.2)
    assert largest_error(true * float("nan"), true) == float("inf")
    with pytest.raises(ValueError, match=r"expected shape \(2,\), got \(1,\)"):
        largest_error(true[:1], true)


def test_a_missed_goal_is_reported() -> None:
    row = {"goals": [goal("a", 0.5, at_most=0.6), goal("b", 30, at_least=35)]}
    assert list(described(row)) == [
        "a: 0.5 (goal: at most 0.6): met",
        "b: 30 (goal: at least 35): missed",
    ]


def test_a_wrong_transformer_is_found(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    assert verify_inference._stock_transformer(context)["ok"]
    monkeypatch.setattr("deepgen.dit.blocks.EPSILON", 0.5)
    assert not verify_inference._stock_transformer(context)["ok"]
