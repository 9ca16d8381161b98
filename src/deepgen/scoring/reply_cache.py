"""Every reply of a judge, on disk, keyed by the request.

Another prompt, image encoding, judge or sampling parameter is another key. Another parser or
aggregation is not, so that scoring again after such a change sends no request.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from deepgen.errors import ScorerError
from deepgen.reading import parse_json

SCHEMA = """
CREATE TABLE IF NOT EXISTS replies (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL,
    judge TEXT NOT NULL,
    model TEXT NOT NULL,
    prompt_hash TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    finish_reason TEXT NOT NULL,
    text TEXT NOT NULL,
    body TEXT NOT NULL,
    seconds REAL NOT NULL,
    received REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS replies_by_key ON replies (key, id);
"""

# Other processes with the same file lock it for milliseconds.
BUSY_SECONDS = 30.0


class FinishReason(StrEnum):
    """How a reply ended."""

    COMPLETE = "complete"
    TRUNCATED = "truncated"
    """Cut by the limit of tokens."""
    REFUSED = "refused"
    """Stopped by a filter."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """One reply and its request."""

    key: str
    judge: str
    """The requested model."""
    model: str
    """The model stated by the server."""
    prompt_hash: str
    attempt: int
    """0 for the first reply to a question; higher after unreadable ones."""
    finish_reason: FinishReason
    text: str
    body: dict[str, Any]
    """The whole response of the server, with its token counts."""
    seconds: float


COLUMNS = tuple(each.name for each in fields(Reply))


class ReplyCache:
    """An append-only file of replies, created if missing; the newest of a key counts.

    Threads may share an instance; processes may share the file, on a local file system.

    Raises:
        ScorerError: The file is something else, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, timeout=BUSY_SECONDS, check_same_thread=False)
            # Appending then does not block readers in other processes.
            self._database.execute("PRAGMA journal_mode=WAL")
            # A killed process loses nothing; only a power cut may lose the last replies.
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.executescript(SCHEMA)
        except (sqlite3.Error, OSError) as error:
            raise ScorerError(
                f"{path} cannot be used as a cache of judge replies ({error}); give another file"
            ) from None

    def find(self, key: str) -> Reply | None:
        """The newest reply under a key."""
        with self._guarded():
            row = self._database.execute(
                f"SELECT {', '.join(COLUMNS)} FROM replies WHERE key = ? ORDER BY id DESC LIMIT 1",
                (key,),
            ).fetchone()
        if row is None:
            return None
        found = dict(zip(COLUMNS, row, strict=True))
        found |= {
            "finish_reason": FinishReason(found["finish_reason"]),
            "body": parse_json(found["body"]),
        }
        return Reply(**found)

    def add(self, reply: Reply) -> None:
        """Append a reply durably."""
        stored = {
            **{name: getattr(reply, name) for name in COLUMNS},
            "text": _storable(reply.text),
            "body": json.dumps(reply.body),
            "received": time.time(),
        }
        with self._guarded(), self._database:
            self._database.execute(
                f"INSERT INTO replies ({', '.join(stored)}) VALUES (:{', :'.join(stored)})", stored
            )

    def __len__(self) -> int:
        with self._guarded():
            return int(self._database.execute("SELECT COUNT(*) FROM replies").fetchone()[0])

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except sqlite3.DatabaseError as error:
                raise ScorerError(
                    f"the cache of judge replies {self._path} failed ({error}); check that its "
                    "disk is not full, or give another file"
                ) from None

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    def __enter__(self) -> ReplyCache:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _storable(text: str) -> str:
    """JSON may contain lone surrogates, which a database does not accept."""
    return text.encode("utf-8", errors="replace").decode("utf-8")
