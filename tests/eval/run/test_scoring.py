from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from deepgen.errors import BenchmarkError, ScorerError
from deepgen.eval.run.folder import RunFolder
from deepgen.eval.run.generation import Shard
from deepgen.eval.run.records import RECORDS, latest_records, read_records, write_record
from deepgen.eval.run.stored import StoredRun
from deepgen.eval.scorer import ImageScorer
from tests.eval.generating import (
    BENCHMARK,
    IMAGES_PER_PROMPT,
    files_of,
    make_items,
    make_manifest,
    run,
)
from tests.eval.judging import NumberScorer, judge

ITEMS = make_items(6)
IMAGES = len(ITEMS) * IMAGES_PER_PROMPT


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    """A run whose images are there, and nothing else."""
    folder = tmp_path / "run"
    run(folder, ITEMS)
    return folder


def stored(folder: Path) -> StoredRun:
    manifest = make_manifest(ITEMS)
    there = RunFolder(folder).finished(BENCHMARK, manifest, ITEMS)
    return StoredRun(
        benchmark=BENCHMARK,
        manifest=manifest,
        items=tuple(ITEMS),
        folder=RunFolder(folder),
        images=there,
        sources=folder,
        records=latest_records(folder, there),
    )


def test_every_image_is_judged_once_and_failures_are_statuses(drawn: Path) -> None:
    scorer = NumberScorer()
    assert isinstance(scorer, ImageScorer)
    scoring = judge(drawn, ITEMS, scorer)
    assert scoring.done
    assert scoring.counts["scored"] + scoring.counts["refused"] == IMAGES
    assert 0 < scoring.counts["refused"] < IMAGES
    assert Counter(each.item.id for each in scorer.seen) == {
        item.id: IMAGES_PER_PROMPT for item in ITEMS
    }
    assert {each.path.suffix for each in scorer.seen} == {".png"}
    refused = [each for each in stored(drawn).records.values() if each.status == "refused"]
    assert len(refused) == scoring.counts["refused"]
    assert all(each.values == {} and each.reason == "a filter" for each in refused)

    again = NumberScorer()
    assert judge(drawn, ITEMS, again) == scoring
    assert (again.seen, again.checks) == ([], 0)


def test_order_threads_and_shares_change_no_record(drawn: Path, tmp_path: Path) -> None:
    ways = {}
    for name, scorers in {
        "one": [NumberScorer()],
        "threads": [NumberScorer(concurrency=5, seconds=0.002)],
        "three": [NumberScorer() for _ in range(3)],
    }.items():
        folder = tmp_path / name
        shutil.copytree(drawn, folder)
        shuffled = random.Random(name).sample(ITEMS, k=len(ITEMS))
        for rank, scorer in enumerate(scorers):
            judge(folder, shuffled, scorer, Shard(rank=rank, count=len(scorers)))
        ways[name] = folder
    assert files_of(ways["one"]) == files_of(ways["threads"])
    assert stored(ways["one"]).records == stored(ways["three"]).records
    # Whoever comes last without a share puts the lines into order.
    judge(ways["three"], ITEMS, NumberScorer())
    assert files_of(ways["three"]) == files_of(ways["one"])


def test_three_processes_at_once_leave_the_records_of_one(drawn: Path, tmp_path: Path) -> None:
    one = tmp_path / "one"
    shutil.copytree(drawn, one)
    judge(one, ITEMS, NumberScorer())
    words = [[str(drawn), str(rank), "3", str(rank), "0.02", str(len(ITEMS))] for rank in range(3)]
    processes = [
        subprocess.Popen([sys.executable, "-m", "tests.eval.judging", *each]) for each in words
    ]
    assert [process.wait(120) for process in processes] == [0, 0, 0]
    assert stored(drawn).records == stored(one).records
    assert len(read_records(drawn / RECORDS)) == IMAGES


def test_killed_at_any_moment_and_resumed_it_leaves_the_same_scores(
    drawn: Path, tmp_path: Path
) -> None:
    whole = tmp_path / "whole"
    shutil.copytree(drawn, whole)
    judge(whole, ITEMS, NumberScorer())
    times, killed, before = random.Random(5), 0, 0
    for attempt in range(12):
        words = [str(drawn), "0", "1", str(attempt), "0.08", str(len(ITEMS))]
        process = subprocess.Popen([sys.executable, "-m", "tests.eval.judging", *words])
        while len(read_records(drawn / RECORDS)) == before and process.poll() is None:
            time.sleep(0.01)
        time.sleep(times.uniform(0.0, 0.15))
        process.send_signal(signal.SIGKILL)
        killed += process.wait(60) == -signal.SIGKILL
        now = len(read_records(drawn / RECORDS))
        # Nothing that was there is lost.
        assert now >= before
        before = now
        if killed == 3:
            break
    assert killed == 3
    assert before < IMAGES
    with (drawn / RECORDS).open("ab") as file:
        file.write(b'\n{"item": "p0", "co')
    last = NumberScorer()
    assert judge(drawn, ITEMS, last).done
    assert len(last.seen) == IMAGES - before
    assert files_of(drawn) == files_of(whole)


def test_a_judge_that_goes_in_the_middle_takes_nothing_with_it(drawn: Path) -> None:
    with pytest.raises(ScorerError, match="the judge has gone"):
        judge(drawn, ITEMS, NumberScorer(gone_after=9, concurrency=3))
    # Threads that had their answer may still be writing it.
    limit = time.monotonic() + 20
    while len(read_records(drawn / RECORDS)) < 9 and time.monotonic() < limit:
        time.sleep(0.01)
    assert len(read_records(drawn / RECORDS)) == 9
    later = NumberScorer(concurrency=3)
    assert judge(drawn, ITEMS, later).done
    assert len(later.seen) == IMAGES - 9


def test_failed_images_are_judged_again_when_asked_for(drawn: Path) -> None:
    counts = judge(drawn, ITEMS, NumberScorer()).counts
    again = NumberScorer()
    assert judge(drawn, ITEMS, again, retry_failed=True).counts == counts
    assert len(again.seen) == counts["refused"]


def test_an_altered_image_is_missing_and_a_regenerated_one_is_scored_again(
    drawn: Path,
) -> None:
    judge(drawn, ITEMS, NumberScorer())
    before = files_of(drawn)
    image = drawn / "images" / str(BENCHMARK.image_path(ITEMS[1], 2))
    image.write_bytes(b"no image")
    again = NumberScorer()
    scoring = judge(drawn, ITEMS, again)
    assert not scoring.done
    assert (scoring.generated, scoring.counts["missing"], again.seen) == (IMAGES - 1, 1, [])
    run(drawn, ITEMS)
    judge(drawn, ITEMS, again)
    assert [each.image_index for each in again.seen] in ([], [2])
    assert files_of(drawn) == before


def test_two_judges_never_share_a_run(drawn: Path) -> None:
    with pytest.raises(ScorerError):
        judge(drawn, ITEMS, NumberScorer(gone_after=4))
    with pytest.raises(BenchmarkError, match=r"scored with model numbers, not other.*delete"):
        judge(drawn, ITEMS, NumberScorer(name="other"))
    judge(drawn, ITEMS, NumberScorer())
    with pytest.raises(BenchmarkError, match="scored with model numbers, not other"):
        judge(drawn, ITEMS, NumberScorer(name="other"))
    (drawn / "scorer.json").write_text("half")
    with pytest.raises(BenchmarkError, match=r"scorer.json is not what deepgen wrote"):
        judge(drawn, ITEMS, NumberScorer())


def test_records_of_other_images_do_not_survive_the_end(drawn: Path) -> None:
    judge(drawn, ITEMS[:3], NumberScorer(), Shard(rank=0, count=2))
    (record, _), *_ = read_records(drawn / RECORDS)
    write_record(drawn, record, "0" * 64)
    judge(drawn, ITEMS, NumberScorer())
    lines = (drawn / RECORDS).read_text().splitlines()
    assert len(lines) == IMAGES
    assert [json.loads(line)["item"] for line in lines[::IMAGES_PER_PROMPT]] == [
        item.id for item in ITEMS
    ]
