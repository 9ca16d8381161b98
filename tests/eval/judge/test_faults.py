"""A judge behind HTTP that fails as real ones do, over one benchmark from end to end."""

from __future__ import annotations

import random
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from deepgen.errors import ScorerError
from deepgen.eval.aggregation import aggregate
from deepgen.eval.benchmark import ImageRecord, Item
from deepgen.eval.benchmarks.gedit.benchmark import GEDIT_ENGLISH
from deepgen.eval.judge.prompts import paraphrased_prompts
from deepgen.eval.judge.scorer import JudgeScorer
from deepgen.eval.registry import create_scorer
from deepgen.eval.run.generation import select_items
from deepgen.eval.scorer import GeneratedImage, ScoringOptions
from deepgen.scoring.judge import HttpJudge, JudgeConfig
from deepgen.scoring.questions import sha256_of_json
from deepgen.scoring.reply_cache import ReplyCache
from tests.eval.judge.images import draw, protocol_of
from tests.eval.records import prompt_folder
from tests.scoring.servers import Heard, Said, completion, serve, text_of, unused_url

ITEMS = 44
THREADS = 8


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def items() -> tuple[Item, ...]:
    return select_items(GEDIT_ENGLISH.load(prompt_folder("gedit_bench")).items, ITEMS)


def good(heard: Heard) -> Said:
    """Scores that depend on the question alone."""
    numbers = random.Random(text_of(heard))
    return completion(f'{{"score": [{numbers.randint(0, 10)}, {numbers.randint(0, 10)}]}}')


class Faulty:
    """20 % errors, 10 % prose and 5 % hangs, by what is asked and how often, in any order."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._times: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()

    def __call__(self, heard: Heard) -> Said:
        key = sha256_of_json(heard.body)
        with self._lock:
            self._times[key] += 1
            chance = random.Random(f"{key} {self._times[key]}").random()
            kind = next(
                name
                for name, fraction in (
                    ("error", 0.2),
                    ("prose", 0.3),
                    ("hang", 0.35),
                    ("good", 1.0),
                )
                if chance < fraction
            )
            self.faults[kind] += 1
        if kind == "error":
            return Said({"error": "overloaded"}, status=503)
        if kind == "prose":
            return completion("A fine image, I would say.")
        said = good(heard)
        said.hang_seconds = 30.0 if kind == "hang" else 0.0
        return said


def marked(generated: GeneratedImage, place: int) -> GeneratedImage:
    """No two images are alike, as JPEG neither, so that no question is asked twice."""
    image = generated.image.convert("RGB")
    image.paste((place % 7 * 40, place // 7 * 36, 0), (8, 0, 24, 16))
    return replace(generated, image=image)


def score_all(
    folder: Path, answer: Callable[[Heard], Said], **changes: int
) -> dict[str, ImageRecord]:
    with serve(answer) as server:
        config = JudgeConfig(
            base_url=server.url,
            model="stub-1",
            timeout_seconds=0.4,
            backoff_seconds=0.01,
            concurrency=THREADS,
            **changes,  # type: ignore[arg-type]
        )
        protocol = protocol_of(GEDIT_ENGLISH, paraphrased_prompts(GEDIT_ENGLISH))
        with ReplyCache(folder / "replies.sqlite") as cache:
            scorer = JudgeScorer(protocol, HttpJudge(config, cache))
            images = [marked(draw(folder, item), place) for place, item in enumerate(items())]
            with ThreadPoolExecutor(THREADS) as threads:
                return {record.item: record for record in threads.map(scorer, images)}


def test_a_judge_with_faults_gives_the_same_records(tmp_path: Path) -> None:
    without = score_all(tmp_path / "without", good)
    assert len(without) == ITEMS
    assert {record.status for record in without.values()} == {"scored"}
    faulty = Faulty()
    faults = score_all(tmp_path / "with", faulty, request_attempts=9, reply_attempts=9)
    assert min(faulty.faults[kind] for kind in ("error", "prose", "hang")) >= 2
    assert faults == without

    with sqlite3.connect(tmp_path / "with" / "replies.sqlite") as database:
        kept = [text for (text,) in database.execute("SELECT text FROM replies")]
    # On a busy machine a reply may come too late to be kept, and is asked for again.
    assert 2 <= sum("fine image" in text for text in kept) <= faulty.faults["prose"]
    assert sum("score" in text for text in kept) == 2 * ITEMS

    # What is kept answers again, and nobody is asked.
    nobody = Faulty()
    assert score_all(tmp_path / "with", nobody) == without
    assert not nobody.faults


def test_what_a_judge_with_faults_never_answers_is_marked_failed(tmp_path: Path) -> None:
    without = score_all(tmp_path / "without", good)
    faults = score_all(tmp_path / "with", Faulty(), request_attempts=1, reply_attempts=1)
    failed = {name: each for name, each in faults.items() if each.status != "scored"}
    assert {each.status for each in failed.values()} == {"error", "unreadable"}
    assert all(each.values == {} and each.reason for each in failed.values())
    assert all(faults[name] == without[name] for name in faults.keys() - failed.keys())
    scores = aggregate(GEDIT_ENGLISH, items(), faults.values())
    assert scores.incomplete
    assert scores.overall is None
    assert scores.coverage == pytest.approx(1 - len(failed) / ITEMS)


def options(folder: Path, url: str) -> ScoringOptions:
    return ScoringOptions(
        judge_url=url,
        judge_model="stub-1",
        paraphrased_prompts=True,
        cache=folder / "replies.sqlite",
    )


def test_a_judge_that_is_not_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    scorer = create_scorer(GEDIT_ENGLISH, options(tmp_path, unused_url()))
    with pytest.raises(ScorerError, match="no judge answers at") as info:
        scorer.check()
    assert "\n" not in str(info.value)


def test_a_judge_that_takes_no_images_is_one_line(tmp_path: Path) -> None:
    def text_only(heard: Heard) -> Said:
        if "image_url" in str(heard.body):
            return Said({"error": {"message": "image input is not supported"}}, status=400)
        return completion("red")

    with serve(text_only) as server:
        scorer = create_scorer(GEDIT_ENGLISH, options(tmp_path, server.url))
        with pytest.raises(ScorerError, match="takes text but no images") as info:
            scorer.check()
    assert "\n" not in str(info.value)
