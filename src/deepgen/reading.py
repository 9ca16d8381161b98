"""Files from elsewhere, read within bounds; the one place where they are opened and parsed.

Only regular files are opened: a named pipe would block for ever, and ``/dev/zero`` never ends.
Texts have a maximum size, JSON and YAML a maximum depth besides, and YAML no aliases. What cannot
be read raises ``OSError``, with the reason in ``strerror``, and what cannot be parsed
``ValueError``, so a caller handles both as it would handle a missing and a damaged file.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any, Literal

MAX_TEXT_BYTES = 1 << 20
"""Of a caption or another text of one image; a thousand times the longest that are in use."""

MAX_JSON_BYTES = 16 << 20
"""Of a JSON file; an index of the released VLM's tensors has 70 kB. Values of 16 MiB of JSON take
at most 450 MiB in memory: a list without entries is two characters, and 56 bytes."""

MAX_YAML_BYTES = 64 << 10
"""Of a YAML file; all settings of a training have 4 kB. PyYAML reads about 100 kB a second."""

MAX_PROMPTS_BYTES = 64 << 20
"""Of a list of prompts, one a line."""

MAX_LINES_BYTES = 4 << 30
"""Of a log with a line for each image or step; its lines are parsed one by one."""

MAX_DEPTH = 100
"""Lists and objects inside one another. Real files have less than ten; Python's own limit on
recursion is reached from about 300, then in whatever handles the values."""

SHOWN = 200
"""Characters of an error of a parser that are shown; some repeat what they have read."""

KINDS = (
    (stat.S_ISFIFO, "it is a named pipe"),
    (stat.S_ISCHR, "it is a device"),
    (stat.S_ISBLK, "it is a device"),
    (stat.S_ISSOCK, "it is a socket"),
)


def open_regular(path: Path | str) -> BufferedReader:
    """Open a regular file for reading; never blocks.

    Raises:
        OSError: It is missing, may not be read, or is a folder, pipe, socket or device.
    """
    # Before opening as well: to open a device may already have an effect.
    _require_regular(Path(path).stat().st_mode, path)
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    handle = os.open(path, flags | getattr(os, "O_CLOEXEC", 0))
    try:
        _require_regular(os.fstat(handle).st_mode, path)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_bytes(path: Path | str, *, limit: int = MAX_JSON_BYTES) -> bytes:
    """The content of a regular file of at most ``limit`` bytes.

    Raises:
        OSError: It cannot be opened, or has more.
    """
    with open_regular(path) as file:
        # Files of the kernel state a size of 0, and others may grow: what is read counts.
        size = os.fstat(file.fileno()).st_size
        data = b"" if size > limit else file.read(limit + 1)
    if size > limit or len(data) > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit:,} bytes, the limit", str(path))
    return data


def read_text(
    path: Path | str,
    *,
    limit: int = MAX_TEXT_BYTES,
    errors: Literal["strict", "replace"] = "strict",
) -> str:
    r"""The text of a file in UTF-8, without a byte order mark, with ``\n`` at the ends of lines.

    Raises:
        OSError: It cannot be opened, or is larger than ``limit`` bytes.
        UnicodeDecodeError: It is not UTF-8, and such bytes are not to be replaced.
    """
    text = read_bytes(path, limit=limit).decode("utf-8-sig", errors)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_json(path: Path | str, *, limit: int = MAX_JSON_BYTES, encoding: str = "utf-8") -> Any:
    """The values of a JSON file.

    Raises:
        OSError: It cannot be opened, or is larger than ``limit`` bytes.
        ValueError: It is not JSON, not UTF-8, or nested too deep.
    """
    return parse_json(read_bytes(path, limit=limit).decode(encoding))


def parse_json(text: str | bytes) -> Any:
    """The values of a JSON text whose length somebody has bounded.

    Raises:
        ValueError: It is not JSON, or nested more than ``MAX_DEPTH`` deep.
    """
    try:
        values = json.loads(text)
    except RecursionError:
        raise _too_deep() from None
    # Counting is hundreds of times faster than visiting, and most texts have few brackets.
    if isinstance(text, bytes):
        openings = text.count(b"[") + text.count(b"{")
    else:
        openings = text.count("[") + text.count("{")
    if openings > MAX_DEPTH:
        check_depth(values)
    return values


def check_depth(values: Any) -> None:
    """Refuse lists and objects nested more than ``MAX_DEPTH`` deep.

    Raises:
        ValueError: They are.
    """
    level = [values]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for each in level:
            if type(each) is dict:
                inner.extend(each.values())
            elif type(each) is list:
                inner.extend(each)
        level = [each for each in inner if type(each) is dict or type(each) is list]
        if not level:
            return
    raise _too_deep()


def read_yaml(path: Path | str) -> Any:
    """The values of a YAML file.

    Raises:
        OSError: It cannot be opened, or is larger than ``MAX_YAML_BYTES``.
        ValueError: See :func:`parse_yaml`.
    """
    return parse_yaml(read_text(path, limit=MAX_YAML_BYTES))


def parse_yaml(text: str) -> Any:
    """The values of a YAML text whose length somebody has bounded.

    Aliases are refused: ten lines of them stand for more values than there is memory.

    Raises:
        ValueError: It is not YAML, has aliases, or is nested more than ``MAX_DEPTH`` deep; with
            line and column.
    """
    # Imported here: most commands read none.
    import yaml

    class Loader(yaml.SafeLoader):
        depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            event = self.peek_event()  # type: ignore[no-untyped-call]
            mark: Any = event.start_mark
            if isinstance(event, yaml.AliasEvent):
                problem = f"the alias *{event.anchor} is not read; write out what it stands for"
                raise yaml.composer.ComposerError(None, None, problem, mark)
            self.depth += 1
            if self.depth > MAX_DEPTH:
                raise yaml.composer.ComposerError(None, None, str(_too_deep()), mark)
            try:
                return super().compose_node(parent, index)
            finally:
                self.depth -= 1

    try:
        return yaml.load(text, Loader)  # Derived from SafeLoader.
    except yaml.MarkedYAMLError as cause:
        mark = cause.problem_mark
        place = "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: "
        raise ValueError(f"{place}{_shown(cause.problem or 'it is not valid YAML')}") from None
    except Exception as cause:
        # Values such as !!float "" raise whatever Python happens to raise for them.
        raise ValueError(f"a value cannot be read ({_shown(str(cause))})") from None


def walk(folder: Path | str) -> Iterator[tuple[str, list[os.DirEntry[str]]]]:
    """Each folder below one, itself first, with its entries by name; links are not followed.

    As :func:`os.walk`, but folders may be nested as deep as the file system allows, which is deeper
    than Python calls functions.

    Raises:
        OSError: A folder cannot be listed.
    """
    folders = [os.fspath(folder)]
    while folders:
        current = folders.pop()
        with os.scandir(current) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        yield current, found
        inner = [each.path for each in found if each.is_dir(follow_symlinks=False)]
        folders.extend(reversed(inner))


def _require_regular(mode: int, path: Path | str) -> None:
    if stat.S_ISREG(mode):
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    kind = next((title for is_kind, title in KINDS if is_kind(mode)), "it is no ordinary file")
    raise OSError(errno.EINVAL, f"{kind}, expected a regular file", str(path))


def _too_deep() -> ValueError:
    return ValueError(f"it is nested more than {MAX_DEPTH} deep, the limit")


def _shown(message: str) -> str:
    message = " ".join(message.split())
    return message if len(message) <= SHOWN else f"{message[: SHOWN - 4]} ..."


def is_readable_by_all(path: Path) -> bool:
    """Whether every user of this machine may read a file, as no file with a secret should be."""
    return bool(path.stat().st_mode & stat.S_IROTH)
