from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from deepgen.cli.main import main
from deepgen.eval.run.folder import RunFolder
from deepgen.images.provenance import NEWSCODES, stated_source
from tests.cli.stub import SmallPipeline, install_for_evaluation, stub_ray
from tests.eval.records import prompt_folder


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SmallPipeline:
    """The stub in place of every model, in a folder to work in."""
    return install_for_evaluation(monkeypatch, tmp_path)


def command(*words: str) -> int:
    data = str(prompt_folder("geneval").parent)
    return main(["eval", *words, "--data", data])


def test_a_subset_is_generated_in_two_shares_and_then_done(
    pipe: SmallPipeline, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    start = ("generate", "geneval", "--limit", "2", "--output", "run", "--device", "cpu")
    assert command(*start, "--shard", "1/2") == 0
    shown = capsys.readouterr()
    assert "4 of 8 images are there, not done" in shown.err
    assert command(*start, "--shard", "2/2") == 0
    assert "8 of 8 images are there, done" in capsys.readouterr().err
    assert [call["num_inference_steps"] for call in pipe.calls] == [3] * 8

    def no_model(path: Path, device: str) -> None:
        raise AssertionError("nothing is left to generate")

    monkeypatch.setattr("deepgen.eval.run.model.load_pipeline", no_model)
    assert command(*start) == 0
    rule = RunFolder(Path("run")).manifest().rule
    assert (rule.steps, rule.guidance_scale, rule.height) == (3, 2.5, None)
    with Image.open(next(Path("run").rglob("*.png"))) as image:
        assert stated_source(image.info) == NEWSCODES + "trainedAlgorithmicMedia"


@pytest.mark.usefixtures("pipe")
def test_processes_of_ray_make_the_run_of_one_and_resume_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setitem(sys.modules, "ray", stub_ray(asked))
    start = ("generate", "geneval", "--device", "cpu", "--output")
    assert command(*start, "one", "--limit", "2") == 0
    assert command(*start, "two", "--limit", "2", "--ray", "2") == 0
    assert "8 of 8 images are there, done" in capsys.readouterr().err
    for path in Path("one").rglob("*.png"):
        other = Path("two") / path.relative_to("one")
        assert other.read_bytes() == path.read_bytes()
    assert (Path("one") / "images.jsonl").read_bytes() == (
        Path("two") / "images.jsonl"
    ).read_bytes()
    # Only what is missing is made again.
    next(Path("two").rglob("*.png")).unlink()
    assert command(*start, "two", "--limit", "2", "--ray", "2") == 0
    assert asked == [2, 1]
    assert command(*start, "two", "--limit", "2", "--ray", "2", "--shard", "1/2") == 2
    assert "leave --shard" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("benchmark", "named"),
    [
        ("unigenbench/en-long", "note: test_prompts_en_long.csv, row 510: put back the comma"),
        ("corebench", "warning: corebench is incomplete here, without C-MI.json, C-MA.json"),
    ],
)
def test_what_was_repaired_or_is_missing_is_named_before_anything_is_generated(
    benchmark: str, named: str, pipe: SmallPipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    start = ("generate", benchmark, "--limit", "1", "--output", "run", "--device", "cpu")
    assert command(*start) == 0
    assert named in capsys.readouterr().err
    assert command("report", "run", "--json") == 0
    shown = capsys.readouterr()
    report = json.loads(shown.out)
    # The report is read by others, so what was mended stands in it, without this machine's path.
    assert [note for note in report["notes"] if "put back" in note] == (
        ["test_prompts_en_long.csv, row 510: put back the comma that its list of test points lacks"]
        if "note" in named[:4]
        else []
    )


def test_the_ranks_of_torchrun_are_shares(
    pipe: SmallPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert command("generate", "geneval", "--limit", "2", "--output", "run", "--device", "cpu") == 0
    assert len({call["prompt"] for call in pipe.calls}) == 1


def test_a_run_without_judgements_is_reported_as_not_done(
    pipe: SmallPipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    start = ("generate", "geneval", "--limit", "1", "--output", "run", "--device", "cpu")
    assert command(*start) == 0
    capsys.readouterr()
    assert command("report", "run", "--json") == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["state"] == "not done"
    assert "run is not done: 4 of 4 images are there, 0 evaluated" in shown.err
    assert "These are not results" in Path("run/report.md").read_text()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["generate", "nothing", "--output", "new"], "there is no benchmark nothing"),
        (["generate", "geneval", "--output", "new", "--shard", "3/2"], "--shard 3/2: expected R/N"),
        (["generate", "geneval", "--output", "new", "--limit", "0"], "--limit must be at least 1"),
        (["generate", "geneval", "--output", "new", "--seed", "-1"], "--seed must be"),
        (["generate", "geneval", "--output", "model"], "--output model is a model"),
        (["generate", "geneval", "--output", "run", "--limit", "2"], "over 1 prompts, not 2"),
        (["generate", "geneval", "--output", "run", "--limit", "1", "--seed", "5"], "base_seed"),
        (["generate", "gedit", "--output", "new"], "images to edit are missing"),
        (["report", "new"], "new is not a run"),
        (["report", "run", "run", "run"], "one run or two"),
    ],
)
def test_what_cannot_be_used_is_one_line(
    words: list[str],
    complaint: str,
    pipe: SmallPipeline,
    capsys: pytest.CaptureFixture[str],
) -> None:
    begin = ("generate", "geneval", "--limit", "1", "--output", "run", "--device", "cpu")
    assert command(*begin) == 0
    capsys.readouterr()
    device = ["--device", "cpu"] if words[0] == "generate" else []
    assert command(*words, *device) == 2
    shown = capsys.readouterr()
    (error,) = shown.err.splitlines()
    assert complaint in error
    assert error.startswith("error: ")
    assert shown.out == ""
    assert len(pipe.calls) == 4
