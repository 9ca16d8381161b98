"""``deepgen eval score`` with scorers as they are, from images to reports."""

from __future__ import annotations

import base64
import io
import json
import random
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from deepgen.cli.main import main
from deepgen.eval.benchmarks.geneval.benchmark import GENEVAL
from deepgen.eval.benchmarks.imgedit.benchmark import IMGEDIT
from deepgen.eval.run.generation import select_items
from deepgen.scoring.judge import PROBE, PROBE_COLORS
from tests.eval.judge.images import paint
from tests.eval.judge.test_faults import Faulty
from tests.eval.records import prompt_folder
from tests.scoring.servers import Heard, Said, completion, serve, text_of, unused_url

ITEMS = 45


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("DEEPGEN_CACHE", str(tmp_path / "cache"))
    # Nobody wants to wait between tries here.
    monkeypatch.setattr("time.sleep", lambda seconds: None)


@pytest.fixture
def edited(tmp_path: Path) -> Path:
    """Prompts with their sources in ``data``, and results of someone else's model in ``drawn``."""
    data = tmp_path / "data" / "imgedit_bench"
    data.mkdir(parents=True)
    shutil.copy(prompt_folder("imgedit_bench") / "basic_edit.json", data)
    for item in select_items(IMGEDIT.load(data).items, ITEMS):
        paint(data / item.sources[0], "source")
        paint(tmp_path / "drawn" / IMGEDIT.image_path(item, 0), "result")
    return tmp_path


def command(folder: Path, run: str, url: str) -> list[str]:
    words = ["eval", "score", "imgedit", "--images", str(folder / "drawn")]
    words += ["--output", str(folder / run), "--data", str(folder / "data")]
    words += ["--limit", str(ITEMS), "--paraphrased-prompts"]
    words += ["--judge-timeout", "0.5", "--judge-parameters", '{"top_p": 0.5}']
    return [*words, "--judge-url", url, "--judge-model", "stub-1"]


def well(heard: Heard) -> Said:
    """Sees colours, and gives scores that depend on the question alone."""
    text = text_of(heard)
    if PROBE in text:
        return completion(color_seen(heard.body))
    numbers = random.Random(text)
    return completion(f"So so.\nA: {numbers.randint(1, 5)}\nB: {numbers.randint(1, 5)}\nC: 1")


def color_seen(body: dict[str, Any]) -> str:
    url = next(
        part["image_url"]["url"]
        for part in body["messages"][-1]["content"]
        if part["type"] == "image_url"
    )
    image = base64.b64decode(url.partition(",")[2])
    pixel = Image.open(io.BytesIO(image)).getpixel((0, 0))
    return next(name for name, rgb in PROBE_COLORS.items() if rgb == pixel)


def badly() -> Callable[[Heard], Said]:
    """20 % errors, 10 % prose, 5 % hangs; the probe is answered late but well."""
    faulty = Faulty()

    def answer(heard: Heard) -> Said:
        told = faulty(heard)
        if PROBE not in text_of(heard) and told.status == 200:
            if "fine image" in json.dumps(told.body):
                return told
            return replace(well(heard), hang_seconds=told.hang_seconds)
        return told if told.status != 200 else well(heard)

    return answer


def test_foreign_edits_are_judged_alike_by_a_good_judge_and_by_one_with_faults(
    edited: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for run, answer in (("good", well), ("bad", badly())):
        with serve(answer) as server:
            assert main([*command(edited, run, server.url), "--json"]) == 0
    good, bad = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert good["counts"]["scored"] == ITEMS
    assert good["state"] == "done"
    assert good["scorer"]["judge"] == "stub-1"
    assert good["scorer"]["judge_prompts"] == "paraphrased"
    assert '"top_p": 0.5' in good["scorer"]["parameters"]
    assert 1 < good["overall"] < 5
    failed = ITEMS - bad["counts"]["scored"]
    assert failed <= 2, "nine tenths of faults are mended by asking again"
    lines = [(edited / run / "scores.jsonl").read_text().splitlines() for run in ("good", "bad")]
    assert sum(a != b for a, b in zip(*lines, strict=True)) == failed
    with sqlite3.connect(edited / "bad" / "replies.sqlite") as database:
        (kept,) = database.execute("SELECT COUNT(*) FROM replies").fetchone()
    assert kept >= ITEMS

    assert main(["eval", "report", str(edited / "good"), "--data", str(edited / "data")]) == 0
    assert (edited / "good" / "report.md").is_file()


def test_a_judge_that_is_not_there_leaves_nothing_but_one_line(
    edited: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(edited, "run", unused_url())) == 2
    lines = capsys.readouterr().err.splitlines()
    (error,) = [line for line in lines if line.startswith("error: ")]
    assert "no judge answers at" in error
    assert not (edited / "run" / "scores.jsonl").exists()
    with serve(well) as server:
        assert main(command(edited, "run", server.url)) == 0


def test_parameters_that_are_no_object_are_one_line(
    edited: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = command(edited, "run", "http://127.0.0.1:1")
    for text in ("{", "[]", "0.5"):
        assert main([*words[:-6], "--judge-parameters", text, *words[-4:]]) == 2
        lines = capsys.readouterr().err.splitlines()
        (error,) = [line for line in lines if line.startswith("error: ")]
        assert "--judge-parameters must be a JSON object" in error


def test_recorded_detections_score_without_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = prompt_folder("geneval")
    items = select_items(GENEVAL.load(data).items, 6)
    file = tmp_path / "found.jsonl"
    rows = []
    for item in items:
        right = {
            clause["class"]: [[0, 0, 8, 8, 0.99]] * clause["count"]
            for clause in item.fields["include"]
        }
        for image_index in range(4):
            paint(tmp_path / "drawn" / GENEVAL.image_path(item, image_index), "result")
            found = right if image_index < 3 and item.category != "position" else {}
            row = {
                "filename": str(GENEVAL.image_path(item, image_index)),
                "details": json.dumps(found),
            }
            rows.append({**row, "metadata": json.dumps(dict(item.fields)), "reason": ""})
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    words = ["eval", "score", "geneval", "--images", str(tmp_path / "drawn"), "--limit", "6"]
    words += ["--data", str(data), "--detector", str(file), "--json"]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["counts"]["scored"] == 24
    assert told["categories"] == {
        item.category: 0 if item.category == "position" else 0.75 for item in items
    }
