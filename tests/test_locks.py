from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deepgen import locks
from deepgen.errors import FolderInUseError
from deepgen.locks import locked

HOLDER = """
import os, sys, time
from pathlib import Path
from deepgen.locks import locked
with locked(Path(sys.argv[1])):
    child = os.fork()
    if child:
        print(child, flush=True)
    time.sleep(60)
"""


@contextmanager
def held(folder: Path, **options: bool) -> Iterator[None]:
    """Another thread has the folder, which is like another process to the system."""
    holds, ends = threading.Event(), threading.Event()

    def hold() -> None:
        with locked(folder, **options):
            holds.set()
            ends.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    assert holds.wait(20)
    try:
        yield
    finally:
        ends.set()
        thread.join()


def test_the_second_is_refused_with_the_process_of_the_first(tmp_path: Path) -> None:
    with (
        held(tmp_path / "run"),
        pytest.raises(FolderInUseError, match=f"written by process {os.getpid()}; wait"),
        locked(tmp_path / "run"),
    ):
        pass
    with locked(tmp_path / "run"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_ends_with_its_process_even_if_a_child_lives_on(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    child = int(holder.stdout.readline())
    try:
        with (
            pytest.raises(FolderInUseError, match=f"process {holder.pid};"),
            locked(tmp_path),
        ):
            pass
        holder.kill()
        holder.wait()
        assert (tmp_path / ".lock").exists()
        with locked(tmp_path):
            assert (tmp_path / ".lock").read_text().startswith(f"{os.getpid()} ")
        assert list(tmp_path.iterdir()) == []
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
        os.kill(child, signal.SIGKILL)


def test_shards_share_a_folder_which_nobody_then_has_alone(tmp_path: Path) -> None:
    with held(tmp_path, shared=True):
        with locked(tmp_path, shared=True):
            pass
        with pytest.raises(FolderInUseError), locked(tmp_path):
            pass
    with (
        held(tmp_path),
        pytest.raises(FolderInUseError),
        locked(tmp_path, shared=True),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_last_of_those_that_share_tidies_up_alone(tmp_path: Path) -> None:
    left = tmp_path / "left"
    left.touch()
    with held(tmp_path, shared=True), locked(tmp_path, shared=True, last=left.unlink):
        pass
    assert left.exists()

    def tidy() -> None:
        with pytest.raises(FolderInUseError), locked(tmp_path, shared=True):
            pass
        left.unlink()

    with locked(tmp_path, shared=True, last=tidy):
        pass
    assert not left.exists()


def test_a_thread_may_lock_again_what_it_has(tmp_path: Path) -> None:
    with locked(tmp_path):
        with locked(tmp_path / ".." / tmp_path.name), locked(tmp_path, shared=True):
            pass
        assert (tmp_path / ".lock").exists()
    assert not (tmp_path / ".lock").exists()


def test_what_is_replaced_as_a_whole_is_locked_beside_it(tmp_path: Path) -> None:
    with locked(tmp_path / "model", beside=True):
        assert [each.name for each in tmp_path.iterdir()] == [".model.lock"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("answer", [errno.ENOLCK, errno.ENOSYS])
def test_a_file_system_without_locks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: int
) -> None:
    def fail(descriptor: int, *, shared: bool) -> bool:
        raise OSError(answer, os.strerror(answer))

    monkeypatch.setattr(locks, "_lock", fail)
    with pytest.warns(UserWarning, match="without locks"), locked(tmp_path):
        assert list(tmp_path.iterdir()) == []


def test_where_nothing_can_be_written_there_is_nothing_to_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", fail)
    with locked(tmp_path):
        pass


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(ValueError, match="is a file, or below one"),
        locked(tmp_path / "file" / "a"),
    ):
        pass
