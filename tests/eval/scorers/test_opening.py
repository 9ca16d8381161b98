from __future__ import annotations

import json
from pathlib import Path

import pytest

from deepgen.errors import ScorerError
from deepgen.eval.benchmark import Benchmark
from deepgen.eval.registry import find_benchmark
from deepgen.eval.scorer import PictureScorer, ScoringOptions
from deepgen.eval.scorers.judging import JudgeScorer
from deepgen.eval.scorers.opening import open_scorer
from deepgen.scoring.judge import HttpJudge
from tests.eval.scorers.drawings import draw
from tests.eval.scorers.test_judged import first_item
from tests.scoring.servers import Heard, Said, serve, unused_url

URL = "http://localhost:8000/v1"


def judged(name: str, folder: Path, model: str = "qwen", **changes: object) -> JudgeScorer:
    options = ScoringOptions(
        judge_url=URL,
        judge_model=model,
        own_words=True,
        cache=folder / "replies.sqlite",
        **changes,  # type: ignore[arg-type]
    )
    scorer = open_scorer(find_benchmark(name), options)
    assert isinstance(scorer, JudgeScorer)
    return scorer


def test_a_judge_is_named_with_its_settings_and_its_questions(tmp_path: Path) -> None:
    scorer = judged("gedit", tmp_path, judge_concurrency=5)
    assert isinstance(scorer, PictureScorer)
    assert scorer.concurrency == 5
    identity = scorer.identity
    assert (identity["judge"], identity["questions"]) == ("qwen", "own words")
    assert json.loads(identity["parameters"]) == {"temperature": 0, "max_tokens": [1400]}
    assert judged("gedit", tmp_path, "other").identity != identity
    assert judged("imgedit", tmp_path).identity["questions_sha256"] != identity["questions_sha256"]
    assert judged("gedit", tmp_path, judge_concurrency=9).identity == identity


@pytest.mark.parametrize(
    ("name", "limits"),
    [("wise/legacy", (2000,)), ("corebench", (512, 2048, 8192)), ("rise", (4096,))],
)
def test_replies_have_the_official_limits(
    tmp_path: Path, name: str, limits: tuple[int, ...]
) -> None:
    judge = judged(name, tmp_path).judge
    assert isinstance(judge, HttpJudge)
    assert judge.config.max_tokens == limits
    assert judge.config.parameters == {"temperature": 0}


def test_a_scripted_judge_answers_from_a_file(tmp_path: Path) -> None:
    replies = tmp_path / "replies.json"
    replies.write_text(json.dumps({"": "Score: 1"}))
    options = ScoringOptions(judge_url=f"scripted:{replies}")
    scorer = open_scorer(find_benchmark("wise"), options)
    scorer.check()
    record = scorer(draw(tmp_path, first_item("wise")))
    assert record.values["score"] == 1
    assert scorer.identity["judge"].startswith("scripted-")


@pytest.mark.parametrize(
    ("name", "options", "complaint"),
    [
        ("wise", ScoringOptions(), "none was named: give --judge-url"),
        ("wise", ScoringOptions(judge_url=URL), "give --judge-model"),
        ("wise", ScoringOptions(judge_url="localhost", judge_model="m"), "is no address"),
        ("wise", ScoringOptions(judge_url="scripted:nowhere.json"), "holds no scripted replies"),
        ("dpg", ScoringOptions(judge_url=URL), "give --judge-model"),
        (
            "dpg",
            ScoringOptions(judge_url=URL, vqa="blip"),
            "one of --judge-url and --vqa; leave all but one away",
        ),
        ("dpg", ScoringOptions(vqa="nowhere/at-all"), "could not be loaded from nowhere/at-all"),
        (
            "geneval",
            ScoringOptions(worker_url=URL, detector="x.jsonl"),
            "one of --worker-url and --detector",
        ),
        ("geneval", ScoringOptions(worker_url="here"), "the worker cannot be asked: 'here'"),
        ("geneval", ScoringOptions(detector="a b"), "a detector could not be loaded from a b"),
        ("cvtg", ScoringOptions(ocr="tesseract"), "there is no OCR engine 'tesseract' here"),
    ],
)
def test_what_cannot_score_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    name: str,
    options: ScoringOptions,
    complaint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEEPGEN_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ScorerError) as info:
        open_scorer(find_benchmark(name), options)
    assert complaint in str(info.value)
    assert "\n" not in str(info.value)


def test_a_worker_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    url = unused_url()
    for name in ("geneval", "dpg", "cvtg"):
        with pytest.raises(ScorerError, match="gives no answers") as info:
            open_scorer(find_benchmark(name), ScoringOptions(worker_url=url))
        assert "\n" not in str(info.value)


def test_words_are_read_by_a_worker_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    def answer(heard: Heard) -> Said:
        if heard.path == "/version":
            return Said({"name": "paddleocr", "version": "2.10.0"})
        return Said({"scores": [{"id": "0", "value": ["SALE"]}]})

    benchmark: Benchmark = find_benchmark("cvtg")
    with serve(answer) as server:
        options = ScoringOptions(worker_url=server.url, clip="none")
        scorer = open_scorer(benchmark, options)
        record = scorer(draw(tmp_path, first_item("cvtg")))
    assert scorer.identity == {"ocr": "paddleocr (version 2.10.0)"}
    assert record.values["lines"] == ["SALE"]
