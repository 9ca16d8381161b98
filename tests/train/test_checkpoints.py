import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from deepgen.errors import CheckpointError
from deepgen.train.checkpoints import Checkpoint, Checkpoints


def write(folder: Path, step: int, keep: int = 3, keep_every: int | None = None) -> Path:
    tensors = {
        "model": {"weight": torch.full((50,), float(step))},
        "ema": {"weight": torch.zeros(9)},
    }
    return Checkpoints(folder, keep, keep_every).write(step, tensors, {"trainer": {"step": step}})


def newest(folder: Path) -> Checkpoint:
    found = Checkpoints(folder).newest()
    assert found is not None
    return found


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def test_what_was_written_is_read(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "run").newest() is None
    write(tmp_path / "run", 7)
    found = newest(tmp_path / "run")
    assert found.step == 7
    assert torch.equal(found.tensors("model")["weight"], torch.full((50,), 7.0))
    assert found.values("trainer") == {"step": 7}


def test_the_disc_is_asked_for_nothing_that_windows_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    fsync = os.fsync
    synced = []

    def of_writers(handle: int) -> None:
        assert fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
        fsync(handle)
        synced.append(handle)

    # Folders are not opened at all.
    monkeypatch.setattr("deepgen.data.shards.os", SimpleNamespace(name="nt"))
    monkeypatch.setattr(os, "fsync", of_writers)
    path = write(tmp_path, 7)
    assert len(synced) == len(list(path.iterdir()))


def test_the_last_few_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 15, 20):
        write(tmp_path, step, keep=2)
    assert names(tmp_path) == ["step_00000015", "step_00000020"]
    with pytest.raises(ValueError, match="at least 1"):
        Checkpoints(tmp_path, 0)


def test_some_are_kept_for_good(tmp_path: Path) -> None:
    for step in (5, 10, 15, 20, 25):
        write(tmp_path, step, keep=1, keep_every=10)
    assert names(tmp_path) == ["step_00000010", "step_00000020", "step_00000025"]


def flip(path: Path, place: float) -> None:
    """Flip a bit of a file, at the beginning (0), at the end (1) or between."""
    content = bytearray(path.read_bytes())
    content[round(place * (len(content) - 1))] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("place", [0, 0.5, 1])
def test_one_flipped_bit_makes_the_one_before_be_used(tmp_path: Path, place: float) -> None:
    write(tmp_path, 10)
    flip(write(tmp_path, 20) / "model.safetensors", place)
    with pytest.warns(UserWarning, match="step_00000020 is damaged .* trying the one before it"):
        assert newest(tmp_path).step == 10
    # Nobody meets it again, and it is not counted among those that are kept.
    for step in (15, 30):
        write(tmp_path, step, keep=3)
    kept = [each for each in names(tmp_path) if each.startswith("step")]
    assert kept == ["step_00000010", "step_00000015", "step_00000030"]


@pytest.mark.parametrize("content", ["[" * 200_000, '{"step": 1e999}', "{", "\0" * 100])
def test_a_manifest_that_cannot_be_read_makes_the_one_before_be_used(
    tmp_path: Path, content: str
) -> None:
    write(tmp_path, 10)
    (write(tmp_path, 20) / "manifest.json").write_text(content)
    with pytest.warns(UserWarning, match="manifest.json cannot be read"):
        assert newest(tmp_path).step == 10


@pytest.mark.parametrize("name", ["model.safetensors", "manifest.json"])
def test_a_missing_file_makes_the_one_before_be_used(tmp_path: Path, name: str) -> None:
    write(tmp_path, 10)
    (write(tmp_path, 20) / name).unlink()
    with pytest.warns(UserWarning, match="damaged"):
        assert newest(tmp_path).step == 10


@pytest.mark.filterwarnings("ignore:.*is damaged")
def test_with_nothing_whole_a_run_does_not_silently_begin_anew(tmp_path: Path) -> None:
    for step in (10, 20):
        (write(tmp_path, step) / "model.safetensors").write_bytes(b"")
    # Nor at the second start, which meets them under other names.
    for _ in range(2):
        with pytest.raises(CheckpointError, match=r"no checkpoint in .* is intact") as caught:
            newest(tmp_path)
        assert "step_00000010" in str(caught.value) and "step_00000020" in str(caught.value)
    write(tmp_path, 30)
    assert newest(tmp_path).step == 30


def test_what_a_kill_left_half_written_is_removed_and_said(tmp_path: Path) -> None:
    write(tmp_path, 10)
    partial = tmp_path / ".step_00000020.0123abcd.partial"
    partial.mkdir()
    (partial / "model.safetensors").write_bytes(b"half")
    with pytest.warns(UserWarning, match="was incomplete"):
        assert newest(tmp_path).step == 10
    assert names(tmp_path) == ["step_00000010"]


def test_a_write_that_fails_leaves_the_others_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (10, 20, 30):
        write(tmp_path, step)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}

    def full(tensors: dict[str, Tensor], path: Path) -> None:
        path.write_bytes(b"some")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("deepgen.train.checkpoints.save_file", full)
    with pytest.raises(CheckpointError, match="step_00000040 cannot be written: No space left"):
        write(tmp_path, 40)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()} == before


def test_a_step_that_is_done_again_takes_the_place_of_the_old(tmp_path: Path) -> None:
    path = write(tmp_path, 20)
    (path / "model.safetensors").write_bytes(b"")
    write(tmp_path, 20)
    assert newest(tmp_path).step == 20


def test_a_manifest_that_forgot_a_file_is_not_believed(tmp_path: Path) -> None:
    write(tmp_path, 10)
    path = write(tmp_path, 20) / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["files"]["model.safetensors"]
    path.write_text(json.dumps(manifest))
    with pytest.warns(UserWarning, match=r"damaged \(manifest.json is not what was written\)"):
        assert newest(tmp_path).step == 10
