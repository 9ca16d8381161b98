"""Where images that a table names are: loose files, or members of the archives beside it."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

from deepgen.data.importers.archives import Member, find_archives, members, plain_tar
from deepgen.data.importers.source import BadRow, ImageSource, Span

JOINED_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")

ARCHIVE_SUFFIX = re.compile(r"\.(tar|tgz)(\.gz)?$")

ROWS_AT_ONCE = 10_000
"""Members that are written into the index together."""


class Images:
    """The images of a folder, found by the paths that a table states.

    The members of archives are listed once, in a small database: tens of millions of them would not
    fit in memory.

    Args:
        root: The folder.
        scratch: For the database and for archives that must be unpacked.
        patterns: Of the archives, relative to ``root``.
        prefixes: Beginnings of stated paths that no file has.
        beside: Folder below ``root`` that stated paths start from; they may start from ``root``.
    """

    def __init__(
        self,
        root: Path,
        scratch: Path,
        patterns: Sequence[str],
        prefixes: Sequence[str] = (),
        beside: str = "",
    ) -> None:
        self.root = root
        self.scratch = scratch
        self.prefixes = prefixes
        self.beside = beside.strip("./")
        self.archives = find_archives(root, patterns)
        self.located_by_end = 0
        """Images of which only the end of the path agreed with that of a member."""
        self._paths: dict[str, Path] = {}
        self._database: sqlite3.Connection | None = None

    def find(self, stated: str) -> ImageSource:
        """Where an image is; a path that leads nowhere if it is not there."""
        names = self._names(stated)
        for name in names:
            if (self.root / name).is_file():
                return name
        if not self.archives:
            return names[0]
        for name in names:
            row = self._query("SELECT archive, name, start, size FROM members WHERE name = ?", name)
            if row:
                return self._span(*row[0])
        return self._by_end(names[0]) or names[0]

    def find_by_key(self, key: str) -> ImageSource:
        """An image by its path without the suffix; a path that leads nowhere if it is not there."""
        for suffix in JOINED_SUFFIXES:
            found = self.find(key + suffix)
            if not isinstance(found, str) or (self.root / found).is_file():
                return found
        return key + JOINED_SUFFIXES[0]

    def faults(self) -> Iterator[BadRow]:
        """What cannot be read of the archives."""
        if self.archives:
            for native_id, reason, message in self._query("SELECT * FROM faults ORDER BY rowid"):
                yield BadRow(native_id=native_id, reason=reason, message=message)

    def some_names(self, count: int = 3) -> list[str]:
        """Names of some members, for messages."""
        if not self.archives:
            return []
        return [name for (name,) in self._query(f"SELECT name FROM members LIMIT {count}")]

    def _names(self, stated: str) -> list[str]:
        """The path, and what is left of it without each prefix; the latter first."""
        name = stated.removeprefix("./").lstrip("/")
        own = [name.removeprefix(p.strip("/") + "/") for p in self.prefixes]
        names = [*(each for each in own if each != name), name]
        if self.beside:
            names = [*(f"{self.beside}/{each}" for each in names), *names]
        return list(dict.fromkeys(names))

    def _by_end(self, name: str) -> ImageSource | None:
        """The only member with the same file name whose folders agree as far as they go.

        A folder of the stated path must be among them, or be what the archive is called: file names
        alone are the same in many archives.
        """
        parts = name.split("/")
        found = self._query(
            "SELECT archive, name, start, size FROM members WHERE base = ?", parts[-1]
        )
        fitting, with_archive = [], []
        for row in found:
            own = row[1].split("/")
            stem = ARCHIVE_SUFFIX.sub("", self.archives[row[0]].name.rsplit("/", 1)[-1])
            if _agree([stem, *own], parts):
                with_archive.append(row)
            elif _agree(own, parts):
                fitting.append(row)
        fitting = with_archive or fitting
        if len(fitting) != 1:
            return None
        self.located_by_end += 1
        return self._span(*fitting[0])

    def _span(self, archive: int, name: str, start: int, size: int) -> Span:
        found = self.archives[archive]
        if found.name not in self._paths:
            self._paths[found.name] = plain_tar(found, self.scratch)
        path = self._paths[found.name]
        return Span(file=path, name=f"{found.name}/{name}", offset=start, length=size)

    def _query(self, statement: str, *values: str) -> list[tuple[Any, ...]]:
        if self._database is None:
            self._database = self._opened()
        return self._database.execute(statement, values).fetchall()

    def _opened(self) -> sqlite3.Connection:
        """The index of these archives, made if there is none."""
        states = [
            (each.name, [(f.stat().st_size, f.stat().st_mtime_ns) for f in each.files])
            for each in self.archives
        ]
        self.scratch.mkdir(parents=True, exist_ok=True)
        digest = blake2b(repr(states).encode(), digest_size=8).hexdigest()
        path = self.scratch / f"{digest}.members"
        if not path.exists():
            part = path.with_suffix(".part")
            part.unlink(missing_ok=True)
            # Rebuilt after a crash, so it needs no journal.
            database = sqlite3.connect(part, isolation_level=None)
            try:
                database.execute("PRAGMA journal_mode = OFF")
                database.execute("PRAGMA synchronous = OFF")
                self._fill(database)
            finally:
                database.close()
            part.replace(path)
        return sqlite3.connect(path)

    def _fill(self, database: sqlite3.Connection) -> None:
        database.execute(
            "CREATE TABLE members (archive INT, name TEXT, base TEXT, start INT, size INT)"
        )
        database.execute("CREATE TABLE faults (native_id TEXT, reason TEXT, message TEXT)")
        database.execute("BEGIN")
        waiting: list[tuple[int, str, str, int, int]] = []
        for number, archive in enumerate(self.archives):
            for each in members(archive, self.scratch):
                if isinstance(each, BadRow):
                    row = (each.native_id, each.reason, each.message)
                    database.execute("INSERT INTO faults VALUES (?, ?, ?)", row)
                    continue
                waiting.append(_row(number, each))
                if len(waiting) == ROWS_AT_ONCE:
                    database.executemany("INSERT INTO members VALUES (?, ?, ?, ?, ?)", waiting)
                    waiting = []
        database.executemany("INSERT INTO members VALUES (?, ?, ?, ?, ?)", waiting)
        database.execute("CREATE INDEX by_name ON members (name)")
        database.execute("CREATE INDEX by_base ON members (base)")
        database.execute("COMMIT")

    def close(self) -> None:
        """Close the database."""
        if self._database is not None:
            with suppress(sqlite3.Error):
                self._database.close()
            self._database = None


def _agree(own: Sequence[str], stated: Sequence[str]) -> bool:
    """Whether the shorter path is the end of the other one, a folder or all that is stated."""
    shared = min(len(own), len(stated))
    return shared >= min(2, len(stated)) and own[-shared:] == stated[-shared:]


def _row(number: int, member: Member) -> tuple[int, str, str, int, int]:
    span = member.span
    return number, member.name, member.name.rsplit("/", 1)[-1], span.offset, span.length
