from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from deepgen.errors import ScorerError
from deepgen.eval.benchmark import Benchmark
from deepgen.eval.benchmarks.geneval.scorer import CLASSES
from deepgen.eval.judge.scorer import JudgeScorer
from deepgen.eval.registry import create_scorer, find_benchmark
from deepgen.eval.scorer import ImageScorer, ScoringOptions
from deepgen.scoring.judge import HttpJudge
from tests.eval.judge.images import draw
from tests.eval.judge.test_protocols import first_item
from tests.scoring.servers import Heard, Said, serve, unused_url
from tests.scoring.tiny_models import save_blip, save_clip, save_mask2former

URL = "http://localhost:8000/v1"


def judged(name: str, folder: Path, model: str = "qwen", **changes: object) -> JudgeScorer:
    options = ScoringOptions(
        judge_url=URL,
        judge_model=model,
        paraphrased_prompts=True,
        cache=folder / "replies.sqlite",
        **changes,  # type: ignore[arg-type]
    )
    scorer = create_scorer(find_benchmark(name), options)
    assert isinstance(scorer, JudgeScorer)
    return scorer


def test_a_judge_is_named_with_its_settings_and_its_questions(tmp_path: Path) -> None:
    scorer = judged("gedit", tmp_path, judge_concurrency=5)
    assert isinstance(scorer, ImageScorer)
    assert scorer.concurrency == 5
    identity = scorer.identity
    assert (identity["judge"], identity["judge_prompts"]) == ("qwen", "paraphrased")
    assert json.loads(identity["parameters"]) == {"temperature": 0, "max_tokens": [1400]}
    assert judged("gedit", tmp_path, "other").identity != identity
    assert (
        judged("imgedit", tmp_path).identity["judge_prompts_sha256"]
        != identity["judge_prompts_sha256"]
    )
    assert judged("gedit", tmp_path, judge_concurrency=9).identity == identity


def test_parameters_go_to_the_judge_beside_or_instead_of_temperature_0(tmp_path: Path) -> None:
    def parameters(**changes: object) -> object:
        judge = judged("gedit", tmp_path, judge_parameters=changes).judge
        assert isinstance(judge, HttpJudge)
        return judge.config.parameters

    assert parameters(top_p=0.5) == {"temperature": 0, "top_p": 0.5}
    assert parameters(temperature=1) == {"temperature": 1}
    assert parameters(temperature=None) == {}
    patient = judged("gedit", tmp_path, judge_timeout_seconds=600.0).judge
    assert isinstance(patient, HttpJudge)
    assert patient.config.timeout_seconds == 600
    with pytest.raises(ScorerError, match="the judge cannot be asked: messages cannot be among"):
        judged("gedit", tmp_path, judge_parameters={"messages": []})


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
    scorer = create_scorer(find_benchmark("wise"), options)
    scorer.check()
    record = scorer(draw(tmp_path, first_item("wise")))
    assert record.values["score"] == 1
    assert scorer.identity["judge"].startswith("scripted-")


@pytest.mark.parametrize(
    ("name", "options", "complaint"),
    [
        ("wise", ScoringOptions(), "none was named: use --judge-url"),
        ("wise", ScoringOptions(judge_url=URL), "use --judge-model"),
        ("wise", ScoringOptions(judge_url="localhost", judge_model="m"), "is not an address"),
        ("wise", ScoringOptions(judge_url="scripted:nowhere.json"), "holds no scripted replies"),
        ("dpg", ScoringOptions(judge_url=URL), "use --judge-model"),
        (
            "dpg",
            ScoringOptions(judge_url=URL, vqa="blip"),
            "one of --judge-url and --vqa; omit all but one",
        ),
        ("dpg", ScoringOptions(vqa="nowhere/at-all"), "could not be loaded from nowhere/at-all"),
        (
            "geneval",
            ScoringOptions(worker_url=URL, detector="x.jsonl"),
            "one of --worker-url and --detector",
        ),
        ("geneval", ScoringOptions(worker_url="here"), "the worker cannot be reached: 'here'"),
        (
            "geneval",
            ScoringOptions(detector="a b"),
            "a detector (--detector) could not be loaded from a b",
        ),
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
        create_scorer(find_benchmark(name), options)
    assert complaint in str(info.value)
    assert "\n" not in str(info.value)


def test_a_worker_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    url = unused_url()
    for name in ("geneval", "dpg", "cvtg"):
        with pytest.raises(ScorerError, match="does not answer") as info:
            create_scorer(find_benchmark(name), ScoringOptions(worker_url=url))
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
        scorer = create_scorer(benchmark, options)
        record = scorer(draw(tmp_path, first_item("cvtg")))
    assert scorer.identity == {"ocr": "paddleocr (version 2.10.0)"}
    assert record.values["lines"] == ["SALE"]


def test_geneval_is_scored_by_models_of_this_machine(tmp_path: Path) -> None:
    pytest.importorskip("scipy", reason="Mask2Former cannot be built without it")
    detector, clip = tmp_path / "detector", tmp_path / "clip"
    # As the hub's model calls them.
    labels = [{"tv": "tvmonitor", "tv remote": "remote"}.get(each, each) for each in CLASSES]
    save_mask2former(detector, labels)
    save_clip(clip)
    benchmark = find_benchmark("geneval")
    options = ScoringOptions(detector=str(detector), clip=str(clip))
    scorer = create_scorer(benchmark, options)
    scorer.check()
    item = first_item("geneval", "color_attr")
    record = scorer(draw(tmp_path, item))
    assert record.status == "scored"
    assert isinstance(record.values["correct"], bool)
    assert json.loads(json.dumps(record.values)) == record.values
    assert scorer(draw(tmp_path, item)) == record
    assert scorer.identity["detector"].startswith("detector@")
    assert scorer.identity["clip"].startswith("clip@")
    assert scorer.identity.keys() >= {"torch", "transformers"}

    save_mask2former(detector, labels[:-1])
    with pytest.raises(ScorerError, match="'toothbrush' the first"):
        create_scorer(benchmark, options)


def test_dpg_is_scored_by_a_model_of_this_machine_or_by_a_judge(tmp_path: Path) -> None:
    questions = [{"id": "1", "parents": [], "question": "is it red?"}]
    item = replace(first_item("dpg"), fields={"questions": questions})
    save_blip(tmp_path / "blip")
    local = create_scorer(find_benchmark("dpg"), ScoringOptions(vqa=str(tmp_path / "blip")))
    assert local(draw(tmp_path, item)).values["answers"].keys() == {"1"}
    assert local.identity["vqa"].startswith("blip@")

    replies = tmp_path / "replies.json"
    replies.write_text(json.dumps({"is it red? Answer with one word": "Yes."}))
    judge = create_scorer(find_benchmark("dpg"), ScoringOptions(judge_url=f"scripted:{replies}"))
    assert judge(draw(tmp_path, item)).values["answers"] == {"1": True}
    assert judge.identity["judge_prompts"] == "paraphrased"


def test_cvtg_is_scored_by_rapidocr_and_clip(tmp_path: Path) -> None:
    pytest.importorskip("rapidocr", reason="the extra ocr is not installed")
    save_clip(tmp_path / "clip")
    scorer = create_scorer(find_benchmark("cvtg"), ScoringOptions(clip=str(tmp_path / "clip")))
    record = scorer(draw(tmp_path, first_item("cvtg"), size=(64, 48)))
    assert record.status == "scored"
    assert record.values["clip_score"] >= 0
    assert scorer.identity["ocr"].startswith("rapidocr-")
