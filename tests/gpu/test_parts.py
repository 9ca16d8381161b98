from __future__ import annotations

import random
from pathlib import Path

import pytest
from gpu import parts
from gpu.parts import join, main_join, main_split, split, split_results


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    path.write_bytes(random.Random(0).randbytes(100_001))
    return path


def test_a_file_survives_being_split_and_joined(tmp_path: Path, weights: Path) -> None:
    written = split(weights, tmp_path / "parts", part_bytes=10_000)
    assert len(written) == 12
    assert max(path.stat().st_size for path in written) <= 10_000
    join(tmp_path / "parts", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == weights.read_bytes()


def test_a_folder_survives_being_split_and_joined(tmp_path: Path, weights: Path) -> None:
    run = tmp_path / "run"
    (run / "images").mkdir(parents=True)
    (run / "images" / "a.txt").write_text("a")
    weights.rename(run / "w")
    assert main_split([str(run), str(tmp_path / "parts")]) == 0
    assert main_join([str(tmp_path / "parts"), str(tmp_path / "back")]) == 0
    names = sorted(path.relative_to(run) for path in run.rglob("*"))
    assert (
        sorted(path.relative_to(tmp_path / "back") for path in (tmp_path / "back").rglob("*"))
        == names
    )
    assert (tmp_path / "back" / "w").read_bytes() == (run / "w").read_bytes()


@pytest.mark.parametrize("damage", ["change", "delete", "list"])
def test_damaged_parts_are_refused_and_nothing_is_written(
    tmp_path: Path, weights: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    *_, last, listing = split(weights, tmp_path / "parts", part_bytes=40_000)
    if damage == "change":
        last.write_bytes(last.read_bytes()[:-1] + b"x")
    elif damage == "delete":
        last.unlink()
    else:
        listing.write_text("{")
    before = sorted(tmp_path.iterdir())
    assert main_join([str(tmp_path / "parts"), str(tmp_path / "back")]) == 2
    assert "again" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


def test_what_is_too_large_to_bring_back_is_refused(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "TOTAL_BYTES", 100_000)
    with pytest.raises(ValueError, match=r"takes 0\.1 MiB, more than"):
        split(weights, tmp_path / "parts")
    assert not (tmp_path / "parts").exists()


def test_parts_replace_earlier_parts_and_nothing_else(tmp_path: Path, weights: Path) -> None:
    with pytest.raises(ValueError, match="other things than parts"):
        split(weights, tmp_path)
    split(weights, tmp_path / "parts", part_bytes=10_000)
    written = split(weights, tmp_path / "parts")
    assert sorted((tmp_path / "parts").iterdir()) == sorted(written)
    with pytest.raises(ValueError, match="exists"):
        join(tmp_path / "parts", weights)


def test_of_results_the_folders_of_trainings_stay(tmp_path: Path, weights: Path) -> None:
    run = tmp_path / "out" / "mini" / "run"
    run.mkdir(parents=True)
    (run.parent / "record.json").write_text("{}")
    weights.rename(run / "w")
    split_results(tmp_path / "out", tmp_path / "parts")
    join(tmp_path / "parts", tmp_path / "back")
    assert [path.name for path in (tmp_path / "back" / "mini").iterdir()] == ["record.json"]
