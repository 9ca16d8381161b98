from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from PIL import Image

from deepgen.cli.main import main
from deepgen.errors import TrainingError
from deepgen.rl.group_records import read_groups, save_group
from deepgen.rl.prompts import Prompt
from deepgen.rl.rewards.base import GroupReward
from deepgen.stages.run_page import MOST_STEPS, read_curves, spread, write_run_page

RED = Image.new("RGB", (8, 8), "red")


def log(folder: Path, *lines: dict[str, object], cut: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "metrics.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines) + cut)
    return path


def save(run: Path, step: int, *advantages: float, group: int = 0) -> None:
    save_group(
        run,
        step=step,
        group=group,
        prompt=Prompt(id="a", prompt="a <b>cat</b>", category="text"),
        images=[RED for _ in advantages],
        rewards={
            "clip": GroupReward(values=tuple(each / 10 for each in advantages)),
            "ocr": GroupReward(values=None, reason="no answer within 30 s"),
        },
        advantages=advantages,
    )


def text_of(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page.partition("<main>")[2]).split())


def test_a_page_has_curves_samples_groups_and_settings_and_needs_nothing_else(
    tmp_path: Path,
) -> None:
    run = tmp_path / "my-run"
    log(run, *({"step": step, "loss": 1 / step, "lr": 0.1} for step in range(1, 30)))
    (run / "config.yaml").write_text(
        "stage: rl\nsteps: 40\nseed: 3\nlogging:\n  sample_prompts: [a dog]\n"
    )
    (run / "samples").mkdir()
    for step in range(1, 30):
        RED.save(run / "samples" / f"step_{step:08}_1.png")
    save(run, 5, -1.5, 1.5)
    path = write_run_page(run)
    page = path.read_text(encoding="utf-8")
    assert path == run / "report.html"
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    assert "<script" not in page
    assert "<b>cat" not in page
    text = text_of(page)
    assert "my-run steps 29 of 40 stage rl seed 3" in text
    assert "Always: lr 0.1" in text
    assert page.count("<polyline") == 1
    assert page.count('alt="a dog"') == MOST_STEPS
    assert "step 1 " in text
    assert "step 29 " in text
    assert "Step 5, text: a &lt;b&gt;cat&lt;/b&gt; ocr is missing: no answer within 30 s" in text
    # The highest advantage comes first.
    assert text.index("+1.50 clip 0.15 ocr missing") < text.index("−1.50 clip -0.15")
    assert "sample_prompts: [a dog]" in text


def test_all_stages_of_a_run_are_on_one_page_in_their_order(tmp_path: Path) -> None:
    for place, stage in enumerate(("label", "sft", "a-last")):
        path = log(tmp_path / "run" / stage, {"step": 1, "loss": 1.0}, {"step": 2, "loss": 0.5})
        os.utime(path, (place, place))
    text = text_of(write_run_page(tmp_path).read_text(encoding="utf-8"))
    names = re.findall(r"Stage (\S+)", text)
    assert names == ["run/label", "run/sft", "run/a-last"]


def test_lines_cut_off_by_a_kill_and_repeated_steps_are_no_problem(tmp_path: Path) -> None:
    lines = [{"step": 1, "loss": 9.0}, {"step": 2, "loss": 8.0}, {"step": 2, "loss": 7.0}]
    path = log(
        tmp_path, *lines, {"step": 2, "val/loss": 3.0, "speed": {"time": {"x": 1}}}, cut='{"st'
    )
    found = {curve.name: curve.points for curve in read_curves(path)}
    assert found == {
        "loss": [(1, 9.0), (2, 7.0)],
        "val/loss": [(2, 3.0)],
        "speed/time/x": [(2, 1.0)],
    }


def test_a_group_that_was_recorded_again_after_a_restart_counts_once(tmp_path: Path) -> None:
    save(tmp_path, 5, 1.0)
    save(tmp_path, 5, 2.0)
    save(tmp_path, 3, 3.0, group=1)
    with (tmp_path / "groups.jsonl").open("a") as file:
        file.write('{"step": 9, "gr')
    assert [(each.step, each.advantages) for each in read_groups(tmp_path)] == [
        (3, (3.0,)),
        (5, (2.0,)),
    ]
    assert all((tmp_path / name).is_file() for name in read_groups(tmp_path)[0].images)


def test_a_folder_without_metrics_is_one_line_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(TrainingError, match=r"has no metrics\.jsonl; name the folder of a run"):
        write_run_page(tmp_path)
    assert main(["train", "report", str(tmp_path)]) == 2
    assert "has no metrics.jsonl" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_command_prints_the_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log(tmp_path, {"step": 1, "loss": 1.0})
    output = tmp_path / "page.html"
    assert main(["train", "report", str(tmp_path), "-o", str(output)]) == 0
    assert capsys.readouterr().out.strip() == str(output)
    assert "At every step: loss 1" in text_of(output.read_text(encoding="utf-8"))


def test_steps_are_spread_evenly_with_both_ends() -> None:
    assert spread(range(100), 4) == [0, 33, 66, 99]
    assert spread([1, 2], 4) == [1, 2]
