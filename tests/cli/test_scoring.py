from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from deepgen.cli.main import main
from deepgen.cli.scoring import ScorerFlags
from deepgen.errors import ScorerError
from deepgen.eval.benchmark import Benchmark, ImageRecord
from deepgen.eval.registry import find_benchmark
from deepgen.eval.scorer import GeneratedImage, ImageScorer, ScoringOptions
from tests.cli.stub import install_for_evaluation
from tests.eval.generating import files_of
from tests.eval.records import prompt_folder


class RednessScorer(ImageScorer):
    """An image is right if it is more red than not."""

    def __init__(self) -> None:
        super().__init__({"model": "redness"}, concurrency=2)
        self.gone = False

    def check(self) -> None:
        if self.gone:
            raise ScorerError("no judge answers at http://localhost:1/v1; start it")

    def __call__(self, generated: GeneratedImage) -> ImageRecord:
        pixel = generated.image.getpixel((0, 0))
        assert isinstance(pixel, tuple)
        values = {"correct": pixel[0] > 127}
        return ImageRecord(
            item=generated.item.id, image_index=generated.image_index, values=values, reason="seen"
        )


@pytest.fixture
def scorer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> RednessScorer:
    """The stub in place of every scorer, and a model of one colour per seed."""
    stub = RednessScorer()

    def create_stub(
        flags: ScorerFlags, benchmark: Benchmark, run: Path, device: str
    ) -> RednessScorer:
        # As judges do: their replies are kept from the first one on, which is a probe.
        run.mkdir(parents=True, exist_ok=True)
        (run / "replies.sqlite").touch()
        return stub

    monkeypatch.setattr(ScorerFlags, "create", create_stub)
    install_for_evaluation(monkeypatch, tmp_path)
    return stub


def command(*words: str) -> int:
    data = str(prompt_folder("geneval").parent)
    return main(["eval", *words, "--data", data])


RUN = ("run", "geneval", "--limit", "6", "--device", "cpu")


def test_one_command_draws_judges_and_reports(
    scorer: RednessScorer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*RUN) == 0
    paths = capsys.readouterr().out.splitlines()
    folder = Path("runs/geneval-mini-6")
    assert {Path(path).parent for path in paths} == {folder}
    assert all(Path(path).is_file() for path in paths)
    report = json.loads((folder / "report.json").read_text())
    assert (report["state"], report["scorer"]) == ("done", {"model": "redness"})
    assert "Scorer: model redness" in (folder / "report.md").read_text()

    before = files_of(folder)
    assert command(*RUN, "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["reports"] == paths
    assert summary["overall"] == report["rules"]["strict"]["overall"]
    assert summary["counts"] == {
        "expected": 24,
        "scored": 24,
        **dict.fromkeys(["missing", "refused", "unreadable", "error"], 0),
    }
    after = files_of(folder)
    assert {name for name in before if before[name] != after[name]} <= {
        "report.json",
        "report.md",
        "report.html",
    }


def test_two_equal_runs_have_equal_reports_but_for_the_time(scorer: RednessScorer) -> None:
    reports = []
    for name in ("first", "second"):
        assert command(*RUN, "--output", name) == 0
        report = json.loads(Path(name, "report.json").read_text())
        del report["written"]
        reports.append(report)
    assert reports[0] == reports[1]


def test_images_that_others_drew_are_scored_reported_and_compared(
    scorer: RednessScorer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*RUN, "--output", "ours") == 0
    shutil.copytree("ours/images", "theirs")
    changed = next(Path("theirs").rglob("00001.png"))
    Image.new("RGB", (8, 8), "black").save(changed)
    capsys.readouterr()
    start = ("score", "geneval", "--images", "theirs", "--limit", "6", "--device", "cpu")
    assert command(*start, "--model-name", "another model") == 0
    shown = capsys.readouterr()
    (run,) = shown.out.splitlines()
    assert Path(run).name == "theirs-geneval"
    assert "24 of 24 images are there: 24 scored; done" in shown.err
    assert not list(Path(run).rglob("*.png"))
    assert command("report", run, "ours", "--json") == 0
    pair = json.loads(capsys.readouterr().out)
    assert pair["state"] == "done"
    made = pair["first"]["run"]
    assert (made["model"], made["base_seed"]) == ("another model", None)
    assert sum(each["first"] != each["second"] for each in pair["items"]) <= 1
    # Whoever says only later who drew them is heard, and nothing is judged again.
    seen = Path(run, "scores.jsonl").read_bytes()
    assert command(*start, "--model-name", "its right name") == 0
    assert json.loads(Path(run, "run.json").read_text())["model"] == "its right name"
    assert command(*start) == 0
    assert json.loads(Path(run, "run.json").read_text())["model"] == "its right name"
    assert Path(run, "scores.jsonl").read_bytes() == seen


def test_a_half_filled_folder_is_scored_and_never_done(
    scorer: RednessScorer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*RUN, "--output", "ours") == 0
    shutil.copytree("ours/images", "theirs")
    missing = sorted(Path("theirs").rglob("00002.png"))[0]
    missing.unlink()
    broken = sorted(Path("theirs").rglob("00003.png"))[0]
    broken.write_bytes(b"no image")
    Image.new("RGB", (8, 8)).save("theirs/holiday.png")
    capsys.readouterr()
    start = ("score", "geneval", "--images", "theirs", "--output", "run", "--limit", "6")
    assert command(*start, "--json", "--device", "cpu") == 3
    shown = capsys.readouterr()
    summary = json.loads(shown.out)
    assert (summary["state"], summary["overall"]) == ("not done", None)
    assert summary["outcome"] == "not_done"
    assert (summary["counts"]["missing"], summary["counts"]["error"]) == (1, 1)
    warnings = [line for line in shown.err.splitlines() if line.startswith("warning: images")]
    # Missing, damaged, none of the benchmark's; and the first that was not scored, with its reason.
    assert len(warnings) == 4
    assert any("holiday.png" in line for line in warnings)
    # Reasons name no folder of this machine: equal runs have equal reports wherever they lie.
    assert str(Path.cwd()) not in Path("run/scores.jsonl").read_text()


def test_a_run_without_a_usable_score_has_an_exit_code_of_its_own(
    scorer: RednessScorer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*RUN, "--output", "ours") == 0
    shutil.copytree("ours/images", "theirs")
    for path in Path("theirs").rglob("*.png"):
        path.write_bytes(b"no image")
    start = ("score", "geneval", "--images", "theirs", "--output", "run", "--limit", "6")
    capsys.readouterr()
    assert command(*start, "--json", "--device", "cpu") == 3
    shown = capsys.readouterr()
    assert json.loads(shown.out)["outcome"] == "all_failed"
    assert "none could be scored" in shown.err


def test_runs_of_two_judges_are_compared_with_a_warning(
    scorer: RednessScorer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*RUN, "--output", "first") == 0
    scorer.identity = {"model": "another"}
    assert command(*RUN, "--output", "second") == 0
    assert command("report", "first", "second") == 0
    assert "scored differently, with model redness, not another" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["geneval"], "name the run with --output, or a folder of images --images"),
        (["geneval", "--output", "nowhere"], "nowhere is not a run"),
        (["wise", "--output", "run"], "run is a run of geneval, not of wise/verified"),
        (["geneval", "--output", "run", "--limit", "2"], "--limit requires --images"),
        (["geneval", "--output", "run", "--model-name", "a"], "--model-name requires --images"),
        (["geneval", "--images", "nowhere"], "there is no folder"),
        (["geneval", "--images", "model"], "holds no image of geneval"),
        (["geneval", "--images", "run/images", "--output", "run"], "is a run with"),
        (["geneval", "--output", "run", "--shard", "2/1"], "--shard 2/1: expected R/N"),
        (["geneval", "--output", "half"], "half is not a run: it has no run.json"),
    ],
)
def test_what_cannot_be_scored_is_one_line(
    words: list[str], complaint: str, scorer: RednessScorer, capsys: pytest.CaptureFixture[str]
) -> None:
    begin = ("generate", "geneval", "--limit", "1", "--output", "run", "--device", "cpu")
    assert command(*begin) == 0
    Path("half/.parts").mkdir(parents=True)
    capsys.readouterr()
    assert command("score", *words, "--device", "cpu") == 2
    shown = capsys.readouterr()
    (error,) = shown.err.splitlines()
    assert complaint in error
    assert error.startswith("error: ")
    assert shown.out == ""


def test_a_judge_that_cannot_be_asked_is_told_before_anything_is_drawn(
    scorer: RednessScorer, capsys: pytest.CaptureFixture[str]
) -> None:
    scorer.gone = True
    assert command(*RUN) == 2
    assert "no judge answers" in capsys.readouterr().err
    assert [path.name for path in Path("runs/geneval-mini-6").iterdir()] == ["replies.sqlite"]


def test_another_judge_in_the_middle_is_one_line(
    scorer: RednessScorer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*RUN, "--output", "run") == 0
    lines = Path("run/scores.jsonl").read_text().splitlines()
    Path("run/scores.jsonl").write_text("\n".join(lines[1:]))
    scorer.identity = {"model": "another"}
    capsys.readouterr()
    assert command(*RUN, "--output", "run") == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert "was scored with model redness, not another" in error


def test_several_processes_draw_and_score_but_do_not_run(
    scorer: RednessScorer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert command(*RUN) == 2
    assert "under torchrun use eval generate, then eval score" in capsys.readouterr().err


def test_the_embedded_model_runs_minibench_out_of_the_box(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEEPGEN_CACHE", str(tmp_path / "cache"))
    assert main(["eval", "run", "minibench", "--limit", "4", "--device", "cpu"]) == 0
    shown = capsys.readouterr()
    assert "4 of 4 images are there: 4 scored; done" in shown.err
    report = json.loads(Path("runs/minibench-mini-4/report.json").read_text())
    assert report["run"]["rule"]["height"] == 64
    assert "reader accuracy at 64 px" in report["scorer"]
    assert "never saw a request for counting" in Path("runs/minibench-mini-4/report.md").read_text()
    for name in shown.out.splitlines():
        assert Path(name).is_file()
    # Whoever gets the images alone comes to the same scores.
    images = "runs/minibench-mini-4/images"
    start = ("score", "minibench", "--images", images, "--limit", "4", "--output", "again")
    assert main(["eval", *start, "--json", "--device", "cpu"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["metrics"] == report["rules"]["strict"]["metrics"]


def test_each_process_of_torchrun_scores_on_the_gpu_of_its_local_rank(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: list[ScoringOptions] = []
    monkeypatch.setattr(
        "deepgen.cli.scoring.create_scorer", lambda benchmark, options: given.append(options)
    )
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.set_device", lambda device: None)
    monkeypatch.setenv("LOCAL_RANK", "1")
    ScorerFlags().create(find_benchmark("geneval"), tmp_path, "auto")
    assert [each.device for each in given] == ["cuda:1"]
