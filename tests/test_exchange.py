"""Slow servers: whatever they send slowly, the whole exchange ends at one deadline."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from deepgen.eval import fetch
from deepgen.eval.registry import find_benchmark
from deepgen.scoring.http import HttpError, request_json
from tests.scoring.servers import Said, serve
from tests.scoring.test_http import raw_server

DRIP = [b"x"] * 60


@pytest.mark.parametrize(
    ("pieces", "status"),
    [
        ([b"HTTP/1.1 200 OK\r\nServer: ", *DRIP], None),
        ([b"HTTP/1.1 2", *DRIP], None),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n", *DRIP], None),
        ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *[b"1\r\nx\r\n"] * 60], None),
        ([b"HTTP/1.1 500 No\r\nContent-Length: 900\r\n\r\n", *DRIP], 500),
        ([b"HTTP/1.1 302 Go\r\nLocation: /a\r\nContent-Length: 900\r\n\r\n", *DRIP], 302),
    ],
    ids=["header", "status line", "body", "chunks", "error body", "redirection"],
)
def test_a_judge_that_drips_is_given_up(pieces: list[bytes], status: int | None) -> None:
    with raw_server(pieces, pause_seconds=0.03) as url:
        start = time.monotonic()
        with pytest.raises(HttpError) as caught:
            request_json(url, {"a": 1}, timeout_seconds=0.2)
        assert time.monotonic() - start < 1.0
    # An error is known by its status, though its text never came.
    assert caught.value.status == status


def test_a_file_that_drips_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "TIMEOUT_SECONDS", 0.2)
    pieces = [b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n", *DRIP]
    with raw_server(pieces, pause_seconds=0.03) as url:
        start = time.monotonic()
        with pytest.raises(fetch.BenchmarkError, match="cannot be fetched"):
            fetch._download(url, tmp_path / "file")
        assert time.monotonic() - start < 1.0


def test_redirections_share_the_deadline_of_the_first_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "TIMEOUT_SECONDS", 0.3)
    with serve(lambda heard: Said("", 302, {"Location": "/x"}, hang_seconds=0.1)) as server:
        start = time.monotonic()
        with pytest.raises(fetch.BenchmarkError, match="cannot be fetched"):
            fetch._download(f"{server.url}/{find_benchmark('geneval').name}", tmp_path / "file")
        assert time.monotonic() - start < 0.9
        assert len(server.heard) <= 4
