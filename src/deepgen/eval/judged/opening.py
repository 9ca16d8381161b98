"""From the name of a benchmark and what the user said to who scores its images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

from deepgen.errors import ScorerError
from deepgen.eval.benchmark import Benchmark
from deepgen.eval.benchmarks.corebench.scorer import corebench_interview
from deepgen.eval.benchmarks.cvtg.scorer import CvtgScorer
from deepgen.eval.benchmarks.dpg.scorer import DpgScorer
from deepgen.eval.benchmarks.gedit.scorer import gedit_interview
from deepgen.eval.benchmarks.geneval.decision import COLORS
from deepgen.eval.benchmarks.geneval.scorer import (
    GenEvalScorer,
    RecordedDetections,
    check_classes,
    read_detections,
)
from deepgen.eval.benchmarks.imgedit.scorer import imgedit_interview
from deepgen.eval.benchmarks.rise.scorer import rise_interview
from deepgen.eval.benchmarks.unigenbench.scorer import unigenbench_interview
from deepgen.eval.benchmarks.uniredit.scorer import uniredit_interview
from deepgen.eval.benchmarks.wise.scorer import wise_interview
from deepgen.eval.judged.judging import Interview, JudgeScorer, open_judge
from deepgen.eval.judged.wording import Wording, open_wording, own_wording
from deepgen.eval.run.folder import hash_file
from deepgen.eval.scorer import Imagescorer, ScoringOptions
from deepgen.scoring import clip, detection, vqa
from deepgen.scoring.clip import Clip, load_clip
from deepgen.scoring.colors import ClipColors
from deepgen.scoring.detection import Detector, RemoteDetector, TransformersDetector
from deepgen.scoring.judge import HttpJudge
from deepgen.scoring.ocr import RapidOcrReader, TextReader
from deepgen.scoring.remote import RemoteTextReader, Worker, WorkerConfig
from deepgen.scoring.vqa import BlipAnswers, JudgeAnswers, RemoteAnswers
from deepgen.scoring.weights import find_weights

NO_CLIP = "none"
"""Instead of a CLIP: CVTG-2K's words without CLIPScore."""

RAPIDOCR = "rapidocr"

INTERVIEWS: Mapping[str, Callable[[Benchmark, Wording], Interview]] = {
    "wise": wise_interview,
    "corebench": corebench_interview,
    "gedit": gedit_interview,
    "imgedit": imgedit_interview,
    "rise": rise_interview,
    "uniredit": uniredit_interview,
}
"""What a judge is asked, by benchmark, whatever the variant."""


def open_scorer(benchmark: Benchmark, options: ScoringOptions) -> Imagescorer:
    """Who scores the images of a benchmark: loads models, finds questions, reaches workers.

    Raises:
        ScorerError: Something that the benchmark needs was not named or is not there; one line says
            what to do.
        BenchmarkError: A file of recorded detections cannot be read.
    """
    openers: Mapping[str, Callable[[Benchmark, ScoringOptions], Imagescorer]] = {
        "judge": _open_judged,
        "detector": _open_geneval,
        "vqa": _open_dpg,
        "ocr": _open_cvtg,
    }
    if benchmark.scorer not in openers:
        raise ScorerError(f"nobody here scores {benchmark.name} with a {benchmark.scorer}")
    return openers[benchmark.scorer](benchmark, options)


def _open_judged(benchmark: Benchmark, options: ScoringOptions) -> Imagescorer:
    wording = open_wording(benchmark, options)
    interview = interview_of(benchmark, wording, options.judge_model or "")
    judge = open_judge(benchmark, options, interview.max_tokens)
    return JudgeScorer(benchmark, interview, judge, concurrency=options.judge_concurrency)


def interview_of(benchmark: Benchmark, wording: Wording, judge_model: str) -> Interview:
    """What a judge is asked under a benchmark's protocol."""
    family = benchmark.name.partition("/")[0]
    if family == "unigenbench":
        return unigenbench_interview(benchmark, wording, judge_model)
    return INTERVIEWS[family](benchmark, wording)


def _open_geneval(benchmark: Benchmark, options: ScoringOptions) -> Imagescorer:
    _one_of(benchmark, options, "worker_url", "detector")
    if options.detector and options.detector.endswith(".jsonl"):
        return _open_recorded(Path(options.detector), options)
    detector: Detector
    if options.worker_url:
        detector = RemoteDetector(_open_worker(options))
    else:
        local = TransformersDetector(
            options.detector or detection.CHECKPOINT, device=options.device
        )
        check_classes(list(local.labels.values()), local.name)
        detector = local
    eyes, name = _open_clip(options)
    identity = {"detector": detector.name, "clip": name, **_versions()}
    return GenEvalScorer(detector, ClipColors(eyes, COLORS), identity)


def _open_recorded(path: Path, options: ScoringOptions) -> Imagescorer:
    rows = read_detections(path)
    identity = {"detections": f"{path.name} {hash_file(path)[:16]}"}
    if all(row.colors is not None for row in rows.values()):
        return RecordedDetections(rows, None, {**identity, "colours": "as recorded"})
    eyes, name = _open_clip(options)
    identity |= {"clip": name, **_versions()}
    return RecordedDetections(rows, ClipColors(eyes, COLORS), identity)


def _open_dpg(benchmark: Benchmark, options: ScoringOptions) -> Imagescorer:
    _one_of(benchmark, options, "worker_url", "judge_url", "vqa")
    if options.worker_url:
        remote = RemoteAnswers(_open_worker(options))
        return DpgScorer(remote, {"vqa": remote.name})
    if options.judge_url:
        wording = own_wording(benchmark)
        judge = open_judge(benchmark, options, (16, 2048, 8192))
        named = judge.config.model if isinstance(judge, HttpJudge) else judge.name
        identity = {"judge": named, "questions": wording.origin, "questions_sha256": wording.sha256}
        answers = JudgeAnswers(judge, wording.texts["question"])
        return DpgScorer(answers, identity, concurrency=options.judge_concurrency)
    local = BlipAnswers(options.vqa or vqa.CHECKPOINT, device=options.device)
    return DpgScorer(local, {"vqa": local.name, **_versions()})


def _open_cvtg(benchmark: Benchmark, options: ScoringOptions) -> Imagescorer:
    _one_of(benchmark, options, "worker_url", "ocr")
    if options.ocr not in (None, RAPIDOCR):
        raise ScorerError(
            f"there is no OCR engine {options.ocr!r} here; there is {RAPIDOCR}, and any other as a "
            "worker (--worker-url)"
        )
    reader: TextReader
    reader = RemoteTextReader(_open_worker(options)) if options.worker_url else RapidOcrReader()
    if options.clip == NO_CLIP:
        return CvtgScorer(reader, None, {"ocr": reader.name})
    eyes, name = _open_clip(options)
    return CvtgScorer(reader, eyes, {"ocr": reader.name, "clip": name, **_versions()})


def _open_clip(options: ScoringOptions) -> tuple[Clip, str]:
    if options.clip == NO_CLIP:
        raise ScorerError(
            f"colours are told apart by CLIP; leave --clip {NO_CLIP} away, or name a folder"
        )
    weights = find_weights(options.clip or clip.CHECKPOINT, clip.PATTERNS, wanted="a CLIP (--clip)")
    return load_clip(weights.folder, device=options.device), weights.identity


def _open_worker(options: ScoringOptions) -> Worker:
    try:
        return Worker(WorkerConfig(base_url=str(options.worker_url)))
    except ValueError as cause:
        raise ScorerError(f"the worker cannot be asked: {cause}") from None


def _one_of(benchmark: Benchmark, options: ScoringOptions, *names: str) -> None:
    """See that the user chose one way at most."""
    given = [f"--{name.replace('_', '-')}" for name in names if getattr(options, name)]
    if len(given) > 1:
        raise ScorerError(
            f"{benchmark.name} is scored by one of {' and '.join(given)}; leave all but one away"
        )


def _versions() -> dict[str, str]:
    """Of the libraries that compute."""
    return {name: version(name) for name in ("torch", "transformers")}
