from __future__ import annotations

import json
import shutil
from pathlib import Path
from urllib.request import Request

import pytest

from deepgen.cli.main import main
from tests.eval.records import prompt_folder


@pytest.fixture
def data() -> Path:
    return prompt_folder("geneval").parent


def test_list_shows_what_there_is_and_what_is_here(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", "list", "--data", str(data), "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    by_name = {row["name"]: row for row in rows}
    assert by_name["geneval"]["images"] == 2212
    assert by_name["corebench/reasoning"]["images"] == 2880
    states = {name: row["prompts"] for name, row in by_name.items()}
    assert states["geneval"] == "here"
    assert states["corebench"] == "partial"
    assert states["uniredit"] == "absent"
    assert main(["eval", "list", "--data", str(data)]) == 0
    assert "geneval" in capsys.readouterr().out


def test_an_altered_file_shows_in_the_list(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "geneval").mkdir()
    (tmp_path / "geneval" / "evaluation_metadata.jsonl").write_text("{}\n")
    assert main(["eval", "list", "--data", str(tmp_path), "--json"]) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    assert (first["name"], first["prompts"]) == ("geneval", "altered")


def test_contamination_counts_exact_and_near_prompts(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Two benchmarks are enough, and quicker than all.
    for name in ("geneval", "t2i_corebench"):
        shutil.copytree(data / name, tmp_path / "data" / name)
    data = tmp_path / "data"
    tasks = json.loads((data / "t2i_corebench" / "R-LR.json").read_text())
    prompts = [task["Prompt"] for task in tasks.values()]
    near = prompts[1] + " Draw it."
    listed = tmp_path / "train.jsonl"
    rows = [{"prompt": prompts[0].upper()}, {"prompts": [{"text": near}]}, {"caption": "a cup"}]
    listed.write_text("\n".join(json.dumps(row) for row in rows))
    assert main(["eval", "contamination", str(listed), "--data", str(data), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["prompts"] == 3
    assert report["benchmarks"]["corebench"] == {"items": 450, "exact": 1, "near": 1}
    assert report["benchmarks"]["geneval"] == {"items": 553, "exact": 0, "near": 0}
    kinds = [(match["item"], match["number"], match["kind"]) for match in report["matches"]]
    assert kinds == [("R-LR-001", 0, "exact"), ("R-LR-002", 1, "near")]

    text = tmp_path / "train.txt"
    text.write_text("a photo of a cow\n\nsomething\n")
    assert main(["eval", "contamination", str(text), "--data", str(data)]) == 0
    shown = capsys.readouterr()
    assert "train.txt: 2 prompts" in shown.out
    assert "not compared with uniredit" in shown.err


def _no_network(request: Request, seconds: float, *, redirects: bool) -> None:
    raise OSError("no network")


def test_fetching_says_at_the_end_in_one_line_what_did_not_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("deepgen.eval.fetch.open_url", _no_network)
    assert main(["eval", "fetch", "geneval", "imgedit", "--data", str(tmp_path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    *reasons, error = lines
    assert [line.partition(" ")[0] for line in reasons] == [
        str(tmp_path / "geneval" / "evaluation_metadata.jsonl"),
        str(tmp_path / "imgedit_bench" / "basic_edit.json"),
        str(tmp_path / "imgedit_bench" / "official" / "Benchmark" / "Basic" / "prompts.json"),
    ]
    assert all("cannot be fetched (no network)" in line for line in reasons)
    assert error.startswith("error: ")
    assert all(line.partition(" ")[0] in error for line in reasons)
    assert "failed: try again" in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["fetch", "nothing"], "there is no benchmark nothing; choose one of"),
        (["fetch"], "name at least one benchmark"),
        (["list", "--data", "nowhere"], "there is no folder nowhere"),
        (["contamination", "absent.txt"], "absent.txt cannot be read"),
        (["contamination", "bad.jsonl"], "bad.jsonl, line 1: no prompt found"),
        (["contamination", "good.txt", "--data", "altered"], "is not the file of geneval"),
        (["contamination", "good.txt", "--data", "empty"], "no benchmark prompts found"),
        (["contamination", "good.txt"], "no benchmark prompts found"),
        (["fetch", "uniredit", "--data", "empty"], "get it by hand"),
        ([], "list, fetch, generate"),
    ],
)
def test_what_cannot_be_used_is_one_line(
    arguments: list[str],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEEPGEN_CACHE", str(tmp_path / "cache"))
    Path("good.txt").write_text("a prompt\n")
    Path("bad.jsonl").write_text('{"image": 1}\n')
    Path("empty").mkdir()
    Path("altered/geneval").mkdir(parents=True)
    Path("altered/geneval/evaluation_metadata.jsonl").write_text("{}\n")
    monkeypatch.setattr("deepgen.eval.fetch.open_url", _no_network)
    assert main(["eval", *arguments]) == 2
    shown = capsys.readouterr()
    (error,) = [line for line in shown.err.splitlines() if line.startswith("error: ")]
    assert complaint in error
    assert "Traceback" not in shown.err
    assert shown.out == ""
