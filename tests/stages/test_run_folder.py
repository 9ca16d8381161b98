"""What a run may write into its folder; all of it is noticed before anything is loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deepgen.cli.main import main
from deepgen.recipes.smoke import smoke
from deepgen.stages.run_folder import SETTINGS, check_output, has_checkpoints, save_settings


def put(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("somebody's own")
    return folder


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("model/model_index.json", "model"),
        ("lora/adapter_model.safetensors", "lora"),
        ("config.yaml", "config.yaml"),
        ("metrics.jsonl", "metrics.jsonl"),
    ],
)
def test_what_no_run_has_made_is_refused_in_one_line_and_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, shown: str
) -> None:
    folder = put(tmp_path / "mine", name)
    assert main(["train", "smoke", "--data", "nowhere", "--output", str(folder)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {folder} holds {shown}, but no run") and said.count("\n") == 1
    assert (folder / name).read_text() == "somebody's own"


def test_all_stages_of_the_mini_refuse_a_model_of_somebody_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path, "model/model_index.json")
    assert main(["train", "mini", "--output", str(tmp_path)]) == 2
    assert "holds model, but no run" in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("model", ["model", "model/stage", "../{name}/model"])
def test_the_model_that_a_run_starts_from_is_not_where_its_own_will_be(
    tmp_path: Path, model: str
) -> None:
    put(tmp_path, "checkpoints/step_00000004/manifest.json", "model/stage/model_index.json")
    start = tmp_path / model.format(name=tmp_path.name)
    with pytest.raises(ValueError, match="which the run would replace; use another --output"):
        check_output(replace(smoke(), model=str(start), output=tmp_path))


def test_a_run_goes_on_in_its_own_folder_and_other_files_are_no_matter(tmp_path: Path) -> None:
    config = replace(smoke(), output=tmp_path)
    put(tmp_path, "slurm.log", "notes/readme.txt")
    check_output(config)
    # Killed before its first checkpoint.
    save_settings(config.output / SETTINGS, config)
    put(tmp_path, "metrics.jsonl")
    check_output(config)
    # And finished.
    put(tmp_path, "checkpoints/step_00000004/manifest.json", "model/model_index.json")
    check_output(config)


def test_damaged_checkpoints_are_of_a_run_and_unfinished_ones_are_not(tmp_path: Path) -> None:
    put(tmp_path, "checkpoints/.step_00000002.0123abcd.partial/model.safetensors")
    assert not has_checkpoints(tmp_path)
    put(tmp_path, "checkpoints/damaged_step_00000002_0123abcd/model.safetensors")
    assert has_checkpoints(tmp_path)
