from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from deepgen.__main__ import run
from deepgen.cli.main import main
from deepgen.rl.rewards import ocr, registry
from deepgen.scoring.answers import Answer, AnswerStatus
from tests.scoring.servers import Heard, Said, serve

Captured = pytest.CaptureFixture[str]


class SizeReader:
    """Reads what an image's width stands for."""

    name = "size"

    def read(self, image: Image.Image) -> Answer[list[str]]:
        lines = {320: ["OPEN 24"], 8: ["TEA"], 9: ["TEN"]}.get(image.width)
        if lines is None:
            return Answer(status=AnswerStatus.ERROR, reason="out of ink")
        return Answer(status=AnswerStatus.SCORED, value=lines)


@pytest.fixture(autouse=True)
def readers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ocr, "create_reader", lambda worker_url="", concurrency=1: SizeReader())
    monkeypatch.setattr(registry, "REWARDS", {"ocr": "", "preference": "", "remote": ""})
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "images"
    path.mkdir()
    for name, width in (("a", 8), ("b", 9), ("c", 7)):
        Image.new("RGB", (width, 8)).save(path / f"{name}.png")
    rows: list[dict[str, Any]] = [
        {"image": "a.png", "prompt": "a sign", "category": "text", "target_texts": ["TEA"]},
        {"image": "b.png", "prompt": "a sign", "category": "text", "target_texts": ["TEA"]},
        {"image": "b.png", "prompt": "a cat"},
    ]
    (path / "images.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def test_a_table_has_every_image_and_every_reward_that_can_be_used(
    folder: Path, capsys: Captured
) -> None:
    assert main(["rewards", "check", str(folder)]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        "image    ocr",
        "a.png  1.000",
        "b.png  0.667",
        "b.png      -",
    ]
    assert "not used: preference (the reward preference needs --judge-url and" in captured.err
    assert "not used: remote (the reward remote needs --reward-url)" in captured.err


def test_what_fails_is_missing_with_its_reason_and_an_exit_code_of_its_own(
    folder: Path, capsys: Captured
) -> None:
    command = ["rewards", "check", str(folder), "--prompt", "a sign", "--target-texts", "TEA"]
    assert main([*command, "--rewards", "ocr", "--json"]) == 3
    report = json.loads(capsys.readouterr().out)
    assert report["rewards"] == {"ocr": {"ocr": "size", "spam_penalty": "0"}}
    assert [each["rewards"]["ocr"] for each in report["images"]] == [
        1.0,
        pytest.approx(2 / 3),
        None,
    ]
    assert report["images"][2]["missing"] == {"ocr": "out of ink"}


def test_a_preference_compares_the_images_of_a_prompt(folder: Path, capsys: Captured) -> None:
    def reply(heard: Heard) -> Said:
        urls = [
            part["image_url"]["url"]
            for part in heard.body["messages"][0]["content"]
            if part["type"] == "image_url"
        ]
        if len(urls) == 1:
            text = ("red", "green", "blue")[probes.setdefault(urls[0], len(probes))]
        else:
            # The canary is red against blue; of the others the first one shown wins.
            canary.setdefault(urls[0], len(canary))
            text = f"<answer>Image {2 if canary[urls[0]] == 1 else 1} is better</answer>"
        message = {"role": "assistant", "content": text}
        return Said({"model": "m", "choices": [{"finish_reason": "stop", "message": message}]})

    probes: dict[str, int] = {}
    canary: dict[str, int] = {}
    with serve(reply) as server:
        judge = ["--judge-url", f"{server.url}/v1", "--judge-model", "m"]
        names = ["--rewards", "preference"]
        assert main(["rewards", "check", str(folder), *names, *judge]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert rows == [["a.png", "1.000"], ["b.png", "0.000"], ["b.png", "-"]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rewards", "check", "none"], "none is not a folder"),
        (["rewards", "check", ".", "--target-texts", "TEA"], "--target-texts requires --prompt"),
        (["rewards", "check", "FOLDER", "--rewards", "beauty"], "there is no reward 'beauty'"),
        (["rewards", "serve", "preference", "--judge-url", "http://x/v1", "--judge-model", "m"],
         "compares the images of a group"),
        (["rewards", "serve", "remote"], "the reward remote needs --reward-url"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_one_line(
    arguments: list[str],
    message: str,
    folder: Path,
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = [str(folder) if each == "FOLDER" else each for each in arguments]
    monkeypatch.setattr("sys.argv", ["deepgen", *given])
    assert run() != 0
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert message in captured.err
