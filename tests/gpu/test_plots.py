from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import plots
import pytest

LOOP = {
    "images": 1,
    "pixels": [512, 512],
    "references": 1,
    "of_floor": {"deepgen_eager": 1.5, "diffusers_eager": 2.5},
}
IMAGE = {"images": 1, "parts_of_last_call": {"prompts": 0.1, "loop": 1.7, "vae": 0.02}}
PROFILE = {"idle_fraction": 0.2, "share_of_busy_time": {"matrix products": 0.75, "norms": 0.25}}


def write(folder: Path, *, toy: bool = False) -> None:
    rows = {"loop_edit": LOOP, "image": IMAGE, "profile_loop": PROFILE}
    filled = {name: {"state": "done", "result": result} for name, result in rows.items()}
    failed = {"loop_8": {"state": "failed", "error": "out of GPU memory"}}
    record = {"starts": [{"toy": toy}], "rows": {**filled, **failed}}
    (folder / "gpu_tables.json").write_text(json.dumps(record))


def texts(path: Path) -> list[str]:
    root = ElementTree.fromstring(path.read_text())
    return [each.text or "" for each in root.iter("{http://www.w3.org/2000/svg}text")]


def test_the_plots_of_the_documents_are_those_of_the_records(tmp_path: Path) -> None:
    plots.main(["--target", str(tmp_path)])
    drawn = sorted(tmp_path.iterdir())
    assert drawn
    for path in drawn:
        assert path.read_text() == (plots.ROOT / "docs" / "img" / path.name).read_text()


def test_the_first_record_of_a_gpu_is_plotted(tmp_path: Path) -> None:
    write(tmp_path)
    plots.main(["--results", str(tmp_path), "--target", str(tmp_path)])
    loops = texts(tmp_path / "performance_gpu_loops.svg")
    assert {"batch 1, 512 px, 1 reference", "1.50", "2.50", "diffusers_eager"} <= set(loops)
    assert "1.82" in texts(tmp_path / "performance_gpu_images.svg")
    assert {"idle", "norms", "1.00"} <= set(texts(tmp_path / "performance_gpu_profiles.svg"))
    assert not (tmp_path / "performance_cpu.svg").exists()


def test_a_rehearsal_is_not_plotted(tmp_path: Path) -> None:
    write(tmp_path, toy=True)
    with pytest.raises(SystemExit, match="record of a rehearsal"):
        plots.main(["--results", str(tmp_path), "--target", str(tmp_path)])


def test_without_records_nothing_is_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plots.main(["--results", str(tmp_path), "--target", str(tmp_path)])
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().err.count("no record yet") == len(plots.PLOTS)
