from __future__ import annotations

import numpy as np
import pytest

from deepgen.eval.aggregation import combine
from deepgen.eval.benchmark import Benchmark
from deepgen.eval.benchmarks.rise.benchmark import CATEGORIES as RISE_CATEGORIES
from deepgen.eval.published import Cell, PublishedTable, Row
from deepgen.eval.registry import BENCHMARKS, find_benchmark
from deepgen.eval.report.charts import place, scale_of
from deepgen.eval.report.published import describe_published

RISE_EDITS = dict(zip(RISE_CATEGORIES, (85, 90, 100, 85), strict=True))


def whole_of(row: Row, metric: str) -> Cell | None:
    wholes = (each for each in row.cells if (each.metric, each.category) == (metric, None))
    return next(wholes, None)


def digit(printed: str) -> float:
    """The value of the last printed digit."""
    return float(10 ** -len(printed.partition(".")[2]))


def recomputed(benchmark: Benchmark, table: PublishedTable, row: Row) -> tuple[float, float] | None:
    """The whole that the printed categories give, and how far rounding can move it."""
    metric = next(each for each in benchmark.metrics if each.name == table.metric)
    parts = {
        cell.category: cell
        for cell in row.cells
        if cell.metric == table.metric and cell.category is not None
    }
    sizes = metric.weights or RISE_EDITS
    if not parts or set(parts) != set(sizes):
        return None
    columns = [(metric.name, name) for name in parts]
    counts = RISE_EDITS if metric.weights is None else dict.fromkeys(parts, 1)
    weights = np.array([[float(counts[name]) for name in parts]])
    amounts = weights * np.array([[cell.value for cell in parts.values()]])
    inputs = max(digit(cell.printed) for cell in parts.values())
    return float(combine(metric, columns, amounts, weights)[0][0]), inputs / 2


def test_every_published_number_has_a_place_in_our_benchmarks() -> None:
    for name, benchmark in BENCHMARKS.items():
        metrics = {metric.name: metric for metric in benchmark.metrics}
        for table in benchmark.published:
            for row in table.rows:
                for cell in row.cells:
                    assert cell.metric in metrics, (name, row.model)
                    weights = metrics[cell.metric].weights
                    if cell.category is not None and weights is not None:
                        assert cell.category in weights, (name, row.model)
                    low, high = scale_of(benchmark)
                    assert low <= cell.value <= high, (name, row.model, cell)


def test_printed_wholes_follow_from_printed_categories_unless_a_remark_says_not() -> None:
    checked = 0
    # Variants share tables; each is checked once.
    tables = {table: each for each in BENCHMARKS.values() for table in each.published}
    for table, benchmark in tables.items():
        for row in table.rows:
            found = recomputed(benchmark, table, row)
            whole = whole_of(row, table.metric)
            if found is None or whole is None:
                continue
            value, rounding = found
            close = abs(value - whole.value) <= rounding + digit(whole.printed) / 2 + 1e-9
            says_not = any("beyond rounding" in each for each in row.remarks)
            assert close != says_not, (table.source, row.model, value, whole.printed)
            checked += 1
    assert checked == 41


def test_the_deepgen_paper_is_beside_every_benchmark_that_it_reports() -> None:
    for name in (
        *("geneval", "dpg/official", "unigenbench/en", "imgedit", "gedit/en", "wise/legacy"),
        *("corebench/reasoning", "rise/2025-05", "uniredit", "cvtg"),
    ):
        first, *_ = BENCHMARKS[name].published
        models = {row.model: row for row in first.rows}
        for stage in ("SFT", "RL"):
            row = models[f"DeepGen 1.0 {stage}"]
            assert row.parameters == "3B + 2B"
            assert whole_of(row, first.metric) is not None


@pytest.mark.parametrize(
    ("name", "expected"), [("wise/verified", ["DeepGen 1.0"]), ("gedit/cn", [])]
)
def test_other_protocols_do_not_lend_their_numbers(name: str, expected: list[str]) -> None:
    assert [row.model for table in BENCHMARKS[name].published for row in table.rows] == expected


def test_a_protocol_of_another_date_is_named_and_not_mixed_in() -> None:
    new = {row.model: row for table in BENCHMARKS["rise/2026-04"].published for row in table.rows}
    old = {row.model: row for table in BENCHMARKS["rise/2025-05"].published for row in table.rows}
    (cell,) = new["BAGEL (thinking)"].cells
    assert (cell.value, old["BAGEL (thinking)"].cells[0].value) == (15.8, 11.9)
    assert "DeepGen 1.0 RL" not in new
    assert "rise/2025-05" in describe_published(BENCHMARKS["rise/2026-04"], {})["elsewhere"]


@pytest.mark.parametrize(
    ("benchmark", "scorer", "compared"),
    [
        ("rise/2025-05", {"judge": "gpt-4.1-2025-04-14", "judge_prompts": "their file"}, True),
        ("rise/2025-05", {"judge": "openai/gpt-4.1"}, True),
        ("rise/2025-05", {"judge": "gpt-4.1-mini-2025-04-14"}, False),
        ("rise/2025-05", {"judge": "gpt-4.1-2025-04-14", "judge_prompts": "paraphrased"}, False),
        ("rise/2025-05", {}, False),
        ("wise/legacy", {"judge": "gpt-4o-2024-05-13"}, True),
        ("wise/legacy", {"judge": "gpt-4o-2024-08-06"}, False),
        ("geneval", {"detector": "mmdet2 (weights /models/a.pth)", "clip": "b"}, True),
        ("geneval", {"detector": "facebook/mask2former-swin-small-coco-instance"}, False),
        ("geneval", {"detections": "results.jsonl 0123"}, False),
        ("dpg", {"vqa": "mplug (modelscope 1.5)"}, True),
        ("dpg", {"vqa": "Salesforce/blip-vqa-base"}, False),
        ("dpg", {"judge": "gpt-4.1", "judge_prompts": "paraphrased"}, False),
        ("cvtg", {"ocr": "paddleocr (version 2.10.0)"}, True),
        ("cvtg", {"ocr": "rapidocr 3.4.1"}, False),
    ],
)
def test_only_the_same_judge_with_the_official_prompts_is_compared(
    benchmark: str, scorer: dict[str, str], compared: bool
) -> None:
    tables = describe_published(find_benchmark(benchmark), scorer)["tables"]
    assert tables
    assert all(bool(table["not_comparable"]) != compared for table in tables)


def test_a_table_of_another_judge_stands_apart_alone() -> None:
    paper, own = describe_published(
        BENCHMARKS["corebench"], {"judge": "Qwen/Qwen3-VL-32B-Thinking"}
    )["tables"]
    assert paper["not_comparable"] == ""
    assert own["not_comparable"].startswith(
        "Scored here by Qwen/Qwen3-VL-32B-Thinking, and there by"
    )


def test_numbers_are_kept_as_they_were_printed() -> None:
    rows = {row.model: row for row in BENCHMARKS["cvtg"].published[0].rows}
    (accuracy, ned, clip_score) = rows["DeepGen 1.0 RL"].cells
    assert [cell.printed for cell in (accuracy, ned, clip_score)] == [".7533", ".8936", ".8278"]
    assert accuracy.value == 0.7533


def test_every_benchmark_has_a_scale() -> None:
    for benchmark in BENCHMARKS.values():
        low, high = scale_of(benchmark)
        assert place(low, (low, high)) == 0
        assert place(high, (low, high)) == 100
        assert place(2 * high, (low, high)) == 100
