from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from deepgen.cli.main import main
from deepgen.eval import registry
from deepgen.eval.benchmark import Item, ItemList
from deepgen.eval.registry import find_benchmark
from deepgen.prompts.text_rendering import text_prompt
from deepgen.rl.prompts import read_prompts

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def one_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    """Computing all prompts of MiniBench takes seconds."""
    from dataclasses import replace

    items = (
        Item(id="row/1", number=0, prompt="A Horse on the moon!", category="all"),
        Item(id="row/2", number=1, prompt=text_prompt(1).prompt, category="all"),
    )
    known = replace(find_benchmark("minibench"), load=lambda folder: ItemList(items=items))
    monkeypatch.setattr(registry, "distinct_prompts", lambda: (known,))


def test_a_file_has_what_was_asked_for_and_no_prompt_of_a_benchmark(
    tmp_path: Path, capsys: Captured
) -> None:
    own = tmp_path / "own.txt"
    own.write_text('a cat\na sign "TEA"\n')
    output = tmp_path / "prompts.jsonl"
    command = ["data", "prompts", str(output), "--text", "20", "--mini-version0", "5"]
    lists = ["--lists", str(own), "--quoted-targets", "--license", "CC0"]
    assert main([*command, *lists, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    prompts = read_prompts(output)
    assert summary["prompts"] == Counter(each.category for each in prompts)
    assert summary["prompts"] == {"text": 20, "general": 7}
    assert summary["compared_with"] == ["minibench"]
    assert [each.id for each in prompts[:3]] == ["text/0", "text/2", "text/3"]
    assert (prompts[-1].target_texts, prompts[-1].license) == (("TEA",), "CC0")
    assert (prompts[-1].id, prompts[-1].source) == ("own/2", "own.txt")


def test_a_benchmark_prompt_fails_the_build_and_writes_nothing(
    tmp_path: Path, capsys: Captured
) -> None:
    own = tmp_path / "own.txt"
    own.write_text("a cat\na horse  on the MOON\n")
    assert main(["data", "prompts", str(tmp_path / "out.jsonl"), "--lists", str(own)]) == 2
    message = capsys.readouterr().err
    assert "the first own/2" in message
    assert "which is row/1 of minibench (exact)" in message
    assert not (tmp_path / "out.jsonl").exists()


def test_text_prompts_without_targets_fail_the_build(tmp_path: Path, capsys: Captured) -> None:
    own = tmp_path / "own.txt"
    own.write_text("a sign that says TEA\n")
    command = ["data", "prompts", str(tmp_path / "out.jsonl"), "--lists", str(own)]
    assert main([*command, "--category", "text"]) == 2
    assert "1 prompts of the category text have no target_texts" in capsys.readouterr().err


def test_other_indices_give_other_prompts(tmp_path: Path, capsys: Captured) -> None:
    names = {}
    for start in (0, 30):
        output = tmp_path / f"{start}.jsonl"
        assert main(["data", "prompts", str(output), "--text", "9", "--start", str(start)]) == 0
        names[start] = {each.prompt for each in read_prompts(output)}
    assert not names[0] & names[30]
    assert "none is a prompt of minibench" in capsys.readouterr().err


def test_a_file_that_exists_is_kept_and_nothing_asked_for_is_an_error(
    tmp_path: Path, capsys: Captured
) -> None:
    output = tmp_path / "prompts.jsonl"
    output.write_text("mine")
    assert main(["data", "prompts", str(output), "--text", "1"]) != 0
    assert "exists; use another name, or --overwrite" in capsys.readouterr().err
    assert main(["data", "prompts", str(tmp_path / "other.jsonl")]) != 0
    assert "ask for prompts with --text" in capsys.readouterr().err
    assert output.read_text() == "mine"
