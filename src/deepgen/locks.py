"""Locks on folders that a command writes: whoever comes second is refused at its start.

A lock is the operating system's (``flock``), on a small file that names its holder. It ends with
the process, however that ends, so nothing has to be cleaned up after a kill. Linux passes such
locks on to NFS servers; where a file system or a platform has none, a warning says so.

The package ``filelock`` has no shared locks on one file, does not name the holder, and leaves its
files in the folders.
"""

from __future__ import annotations

import errno
import os
import platform
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from deepgen.errors import FolderInUseError
from deepgen.reading import read_text

try:
    import fcntl
except ImportError:
    # Windows.
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
"""Name of the file, which is there only while a command writes into its folder."""

UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
"""Errors of file systems without locks."""

BUSY = (errno.EAGAIN, errno.EACCES)

LEAVING_SECONDS = 0.1
"""How long a lock may be held by one who only removes its file."""

NAMING_SECONDS = 0.5
"""Limit on the wait for the name of a holder that has just begun."""


@dataclass(slots=True)
class _Held:
    """A lock of this process."""

    descriptor: int
    path: Path
    thread: int
    depth: int = 1


_held: dict[Path, _Held] = {}
_guard = threading.Lock()


@contextmanager
def locked(
    folder: Path,
    *,
    shared: bool = False,
    beside: bool = False,
    name: str = LOCK,
    last: Callable[[], None] | None = None,
) -> Iterator[None]:
    """Have a folder to oneself in the body; a thread may lock again what it has locked.

    The folder is created, and removed again if it is still empty at the end. Where this process
    may not write, there is no lock, and nothing to protect.

    Args:
        folder: What is written.
        shared: Others that share it may write too: the processes of one evaluation.
        beside: Keep the file next to the folder, which is going to be replaced as a whole.
        name: Of the file; files of other names are other locks.
        last: Called at the end by the last of those that share it, while nobody else can lock it.

    Raises:
        FolderInUseError: Another process, or another thread, is writing there.
    """
    place = folder.parent if beside else folder
    path = place.resolve() / (f".{folder.name}{name}" if beside else name)
    created = [] if place.is_dir() else _create(place)
    try:
        held = _enter(path, folder, shared=shared)
        try:
            yield
        finally:
            if held is not None:
                _leave(held, last)
    finally:
        for each in created:
            # Whoever wrote into it keeps it.
            with suppress(OSError):
                each.rmdir()


def _create(folder: Path) -> list[Path]:
    """Create a folder; returns what was missing of its path, the innermost first."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ValueError(f"{folder} is a file, or below one; choose another folder") from None
    except OSError:
        # What is to be written there fails in the same way, and says what that was.
        pass
    return missing


def _enter(path: Path, folder: Path, *, shared: bool) -> _Held | None:
    mine = threading.get_ident()
    with _guard:
        held = _held.get(path)
        if held is not None and held.thread == mine:
            held.depth += 1
            return held
    descriptor = _acquired(path, folder, shared=shared)
    if descriptor is None:
        return None
    held = _Held(descriptor=descriptor, path=path, thread=mine)
    with _guard:
        _forget_in_children()
        _held[path] = held
    return held


def _leave(held: _Held, last: Callable[[], None] | None) -> None:
    with _guard:
        held.depth -= 1
        if held.depth:
            return
        # Of several that share the file each has its own lock on it, and only one is noted here.
        if _held.get(held.path) is held:
            del _held[held.path]
    try:
        # Only the last one removes the file, while nobody else can lock it.
        if _lock(held.descriptor, shared=False) and _is_at(held.descriptor, held.path):
            if last is not None:
                last()
            with suppress(OSError):
                held.path.unlink()
    finally:
        os.close(held.descriptor)


@cache
def _forget_in_children() -> None:
    """Have forked processes, which inherit open files, give up the locks of their parent."""

    def forget() -> None:
        for held in _held.values():
            with suppress(OSError):
                os.close(held.descriptor)
        _held.clear()

    os.register_at_fork(after_in_child=forget)


def _acquired(path: Path, folder: Path, *, shared: bool) -> int | None:
    """An open file with the lock on it; None where there can be none.

    Raises:
        FolderInUseError: Another has it.
    """
    end = time.monotonic() + LEAVING_SECONDS
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        except OSError as cause:
            if cause.errno in (errno.ELOOP, errno.EISDIR):
                raise FolderInUseError(f"{path} is not a lock of deepgen; remove it") from None
            if isinstance(cause, FileNotFoundError) and time.monotonic() < end:
                # A holder before removed the folder, which was empty, at this moment.
                with suppress(OSError):
                    path.parent.mkdir(parents=True, exist_ok=True)
                continue
            # What is to be written there fails in the same way, and says what that was.
            return None
        try:
            if not _lock(descriptor, shared=shared):
                if time.monotonic() > end:
                    raise FolderInUseError(
                        f"{folder} is being written by {_holder(path)}; wait for it to end, or "
                        "choose another folder"
                    )
                time.sleep(0.01)
            elif _is_at(descriptor, path):
                _note_holder(descriptor, shared=shared)
                return descriptor
            # Held, or removed meanwhile by the holder before: there may be a new one.
            os.close(descriptor)
        except OSError as cause:
            os.close(descriptor)
            if cause.errno not in UNSUPPORTED:
                raise
            with suppress(OSError):
                path.unlink()
            warnings.warn(
                f"{folder} is on a file system without locks ({cause.strerror}); see that no "
                "other command writes there",
                stacklevel=2,
            )
            return None
        except BaseException:
            os.close(descriptor)
            raise


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file still has its name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def _note_holder(descriptor: int, *, shared: bool) -> None:
    """Write the name of this process into its file, for the messages of others."""
    line = f"{os.getpid()} {platform.node()}\n".encode()
    with suppress(OSError):
        # A full disk costs only the name.
        if not shared:
            os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_END)
        os.write(descriptor, line)


def _holder(path: Path) -> str:
    """The processes that a file names, without those that have ended."""
    end = time.monotonic() + NAMING_SECONDS
    while True:
        with suppress(OSError):
            lines = [line.split() for line in read_text(path, errors="replace").splitlines()]
            pids = [(line[0], line[-1]) for line in lines if line and line[0].isdecimal()]
            alive = [each for each in pids if _may_be_alive(*each)]
            if alive:
                here = platform.node()
                return " and ".join(
                    f"process {pid}{'' if host == here else f' on {host}'}" for pid, host in alive
                )
        if time.monotonic() > end:
            return "another process"
        time.sleep(0.01)


def _may_be_alive(pid: str, host: str) -> bool:
    """Whether a process may still run; of other machines nothing is known."""
    if host != platform.node():
        return True
    try:
        os.kill(int(pid), 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True


def _lock(descriptor: int, *, shared: bool) -> bool:
    """Lock an open file; False where another has it.

    Raises:
        OSError: Its file system, or this platform, has no locks.
    """
    if fcntl is None:
        raise OSError(errno.ENOSYS, "this platform has no flock")
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as cause:
        if cause.errno in BUSY:
            return False
        raise
    return True
