from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deepgen import reading
from deepgen.reading import MAX_DEPTH, parse_json, parse_yaml, read_bytes, read_json, read_text


def test_texts_are_read_without_byte_order_mark_and_with_plain_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffone\r\ntwo\rthree\n".encode())
    assert read_text(path) == "one\ntwo\nthree\n"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (os.mkfifo, "it is a named pipe, expected a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "it is a device, expected a regular file"),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
        (lambda path: path.mkdir(), "Is a directory"),
        (lambda path: socket.socket(socket.AF_UNIX).bind(str(path)), "it is a socket"),
    ],
)
def test_only_regular_files_are_opened(
    make: Callable[[Path], object], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A socket's path may only have some hundred characters.
    monkeypatch.chdir(tmp_path)
    make(Path("odd"))
    with pytest.raises(OSError, match=reason):
        read_bytes(Path("odd"))


def test_a_file_may_have_as_many_bytes_as_the_limit_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"12345")
    assert read_bytes(path, limit=5) == b"12345"
    with pytest.raises(OSError, match="it has more than 4 bytes, the limit"):
        read_bytes(path, limit=4)


def test_files_of_the_kernel_that_state_no_size_are_bounded_too() -> None:
    with pytest.raises(OSError, match="more than 4 bytes"):
        read_bytes("/proc/self/maps", limit=4)


def test_a_sparse_file_is_refused_by_its_size(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(OSError, match="more than"):
        read_json(path)


@pytest.mark.parametrize("start", ["[", '{"a":', '[{"a":'])
def test_json_is_read_to_its_maximum_depth(start: str) -> None:
    opened = start.count("[") + start.count("{")

    def nested(depth: int) -> str:
        ends = "".join("]" if each == "[" else "}" for each in reversed(start) if each in "[{")
        return start * (depth // opened) + "1" + ends * (depth // opened)

    parse_json(nested(MAX_DEPTH))
    for depth in (MAX_DEPTH + opened, 5 * MAX_DEPTH, 100_000):
        with pytest.raises(ValueError, match="nested more than 100 deep"):
            parse_json(nested(depth))
    parse_json("[" + ",".join(["[]"] * 1000) + "]")


@pytest.mark.parametrize("text", ["[" * 500, "- " * 500 + "a", "{a: " * 500, "? " * 500])
def test_yaml_is_read_to_its_maximum_depth(text: str) -> None:
    with pytest.raises(ValueError, match=r"line 1, column .*: it is nested more than 100 deep"):
        parse_yaml(text)


def test_yaml_has_no_aliases() -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"{b}: &{b} [{', '.join([f'*{chr(ord(b) - 1)}'] * 10)}]" for b in "bcdefghi"]
    with pytest.raises(ValueError, match="line 2, column 8: the alias \\*a is not read; write out"):
        parse_yaml("\n".join(lines))
    with pytest.raises(ValueError, match="alias"):
        parse_yaml("&a [*a]")


@pytest.mark.parametrize(
    "text", ['!!float ""', "!!timestamp x", "!!bool x", "2001-99-99", "1" * 5000, "\0", "? [a]: b"]
)
def test_yaml_that_its_library_fails_on_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as caught:
        parse_yaml(text)
    assert len(str(caught.value)) < reading.SHOWN + 100


def test_folders_nested_deeper_than_python_calls_functions_are_walked(tmp_path: Path) -> None:
    with nested_folders(tmp_path, 1200):
        found = list(reading.walk(tmp_path))
    assert len(found) == 1201
    assert [each.name for each in found[-1][1]] == ["x.png"]


@contextmanager
def nested_folders(folder: Path, depth: int) -> Iterator[None]:
    """Nested folders with a file named ``x.png`` in the innermost; pytest cannot delete them."""
    home = Path.cwd()
    os.chdir(folder)
    try:
        for _ in range(depth):
            Path("d").mkdir()
            os.chdir("d")
        Path("x.png").write_bytes(b"no image")
        os.chdir(home)
        yield
    finally:
        os.chdir(folder.joinpath(*["d"] * depth))
        Path("x.png").unlink()
        for _ in range(depth):
            os.chdir("..")
            Path("d").rmdir()
        os.chdir(home)


OWN_FILES = {
    # What the package itself contains, or has written into a string a moment before.
    "cli/demo.py",
    "eval/benchmarks/minibench/benchmark.py",
    "eval/benchmarks/minibench/scorer.py",
    "eval/published.py",
    "eval/report/published.py",
    "images/io.py",
    "checkpoint/writing.py",
    "checkpoint/unpickling.py",
    "mini/reader/objects.py",
    "mini/training/clip_training.py",
    "mini/reader/scenes.py",
    "mini/world/drawing.py",
    "data/mixture_presets.py",
    "data/preview_page.py",
    # What pip wrote of this installation.
    "extras.py",
    # What a library says of a manifest that it has checked.
    "images/signing.py",
    # Files of the data set or run that was opened, compared with hashes of their content.
    "data/dataset.py",
    "eval/run/folder.py",
    # The files of the page, and messages between the server's own two processes.
    "serve/app.py",
    "serve/frames.py",
    "serve/worker.py",
}
DIRECT = re.compile(
    r"json\.loads?\(|yaml\.(?:safe_|full_|unsafe_)?load|(?<!reading)\.read_(?:text|bytes)\(|Image\.open\("
)


def test_files_from_elsewhere_are_opened_in_one_place() -> None:
    package = Path(reading.__file__).parent
    direct = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if path.name != "reading.py" and DIRECT.search(path.read_text(encoding="utf-8"))
    }
    assert direct - OWN_FILES == set(), "read them by deepgen.reading, or say why not"
