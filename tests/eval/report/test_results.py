from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from deepgen.errors import BenchmarkError
from deepgen.eval.benchmark import ImageRecord, Item
from deepgen.eval.benchmarks.geneval.benchmark import GENEVAL
from deepgen.eval.report.report_files import write_report
from deepgen.eval.report.results import (
    describe,
    describe_pair,
    to_csv,
    to_json,
    to_markdown,
)
from deepgen.eval.run.folder import hash_items
from deepgen.eval.run.generation import generate, select_items
from deepgen.eval.run.records import RECORDS, read_records, write_record
from deepgen.eval.run.stored import StoredRun, read_run
from tests.eval.generating import RULE, make_manifest, noise_of, planned
from tests.eval.records import prompt_folder

LIMIT = 6


def geneval_items() -> tuple[Item, ...]:
    return select_items(GENEVAL.load(prompt_folder("geneval")).items, LIMIT)


def draw_and_judge(folder: Path, *, right: int, model: str = "noise") -> None:
    """A whole run, of whose images the first ``right`` of each prompt are correct."""
    items = geneval_items()
    manifest = make_manifest(
        items,
        benchmark="geneval",
        model=model,
        prompts_sha256=hash_items(items),
        limit=LIMIT,
        rule=replace(RULE, height=8, width=8),
    )
    run = planned(folder, items, benchmark=GENEVAL, manifest=manifest)
    generate(run, noise_of())
    for line in run.finished().values():
        values = {"correct": line.image_index < right}
        record = ImageRecord(item=line.item, image_index=line.image_index, values=values)
        write_record(folder, record, line.sha256)


def stored(folder: Path) -> StoredRun:
    return read_run(folder, prompt_folder("geneval"))


def test_a_report_has_scores_intervals_coverage_and_what_made_them(tmp_path: Path) -> None:
    draw_and_judge(tmp_path, right=3)
    report = describe(stored(tmp_path), "now")
    assert (report["state"], report["subset"], report["coverage"]) == ("done", True, 1.0)
    assert {rule: each["overall"] for rule, each in report["rules"].items()} == {
        "strict": 0.75,
        "official": 0.75,
        "pessimistic": 0.75,
    }
    interval = report["intervals"]["accuracy"]
    # Six prompts that agree say little of others.
    assert (interval["value"], interval["low"]) == (0.75, pytest.approx(0.365, abs=0.001))
    assert report["run"]["base_seed"] == 7
    assert json.loads(to_json(report)) == report
    rows = list(csv.DictReader(io.StringIO(to_csv(report))))
    (whole,) = [
        r for r in rows if (r["rule"], r["metric"], r["category"]) == ("strict", "images", "")
    ]
    assert (whole["value"], whole["seed"], whole["state"]) == ("0.75", "7", "done")
    assert (whole["versions"], whole["failed"]) == ("deepgen 1", "0")
    assert float(whole["low"]) == report["intervals"]["images"]["low"]
    shown = to_markdown(report)
    assert "| accuracy | 0.75 | 0.36 to 0.94 |" in shown
    assert "Not done" not in shown


def test_equal_runs_have_equal_reports_but_for_the_time(tmp_path: Path) -> None:
    texts = []
    for name, written in (("a", "today"), ("b", "tomorrow")):
        draw_and_judge(tmp_path / name, right=2)
        report = describe(stored(tmp_path / name), written)
        texts.append([each(report) for each in (to_json, to_csv, to_markdown)])
    first, second = texts
    assert first != second
    assert [each.replace("today", "tomorrow") for each in first] == second


def test_a_run_that_is_not_done_has_no_overall_score_and_says_so(tmp_path: Path) -> None:
    draw_and_judge(tmp_path, right=4)
    (tmp_path / "images" / geneval_items()[0].id / "samples" / "00002.png").unlink()
    report = describe(stored(tmp_path), "now")
    assert report["state"] == "not done"
    assert report["images"] == {"expected": 24, "generated": 23, "evaluated": 23}
    assert [each["overall"] for each in report["rules"].values()] == [None, None, None]
    assert "**Not done.** 23 of 24 images are generated" in to_markdown(report)


def test_a_score_of_another_image_does_not_count(tmp_path: Path) -> None:
    draw_and_judge(tmp_path, right=4)
    item = geneval_items()[0].id
    write_record(tmp_path, ImageRecord(item=item, values={"correct": False}), "0" * 64)
    assert describe(stored(tmp_path), "now")["rules"]["strict"]["overall"] == 1.0


def test_failures_are_listed_with_their_reasons(tmp_path: Path) -> None:
    draw_and_judge(tmp_path, right=4)
    (old, sha256), *_ = read_records(tmp_path / RECORDS)
    failed = replace(old, status="error", values={}, reason="out of memory")
    write_record(tmp_path, failed, sha256)
    report = describe(stored(tmp_path), "now")
    assert report["failures"] == [
        {"item": old.item, "image_index": 0, "status": "error", "reason": "out of memory"}
    ]
    assert report["incomplete"]
    assert report["rules"]["strict"]["overall"] is None
    assert report["rules"]["pessimistic"]["overall"] == pytest.approx(23 / 24)


def test_half_a_line_is_left_out_and_a_strange_one_refused(tmp_path: Path) -> None:
    record = ImageRecord(item="a", values={"correct": True})
    write_record(tmp_path, record, "1")
    with (tmp_path / RECORDS).open("a") as file:
        file.write('\n{"item": "b", "co')
    write_record(tmp_path, record, "2")
    assert read_records(tmp_path / RECORDS) == [(record, "1"), (record, "2")]
    (tmp_path / RECORDS).write_text('{"item": "a"}\n')
    with pytest.raises(BenchmarkError, match="line 1: not a record of an image"):
        read_records(tmp_path / RECORDS)
    (tmp_path / RECORDS).write_text('{"item": "a", "sha256": "", "status": "fine"}\n')
    with pytest.raises(BenchmarkError, match=r"status: .*found 'fine'"):
        read_records(tmp_path / RECORDS)


def test_two_runs_are_compared_item_by_item(tmp_path: Path) -> None:
    draw_and_judge(tmp_path / "a", right=2, model="before")
    draw_and_judge(tmp_path / "b", right=3, model="after")
    runs = [stored(tmp_path / "a"), stored(tmp_path / "b")]
    report = describe_pair(runs[0], runs[1], "now")
    assert report["differences"]["accuracy"]["value"] == pytest.approx(0.25)
    assert report["differences"]["accuracy"]["items"] == LIMIT
    assert [(each["first"], each["second"]) for each in report["items"]] == [(0.5, 0.75)] * LIMIT
    shown = to_markdown(report)
    assert "# geneval: after minus before" in shown
    assert "6 of 6 prompts differ" in shown
    paths = write_report(report, tmp_path / "a", runs=runs, stem="comparison")
    names = ["comparison.json", "comparison.md", "comparison.html"]
    assert [path.name for path in paths] == names
    other = replace(
        stored(tmp_path / "b"), manifest=make_manifest([], benchmark="geneval", limit=2)
    )
    with pytest.raises(BenchmarkError, match="generate the same prompts"):
        describe_pair(stored(tmp_path / "a"), other, "now")
