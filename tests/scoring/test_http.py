from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from deepgen.scoring import http as json_http
from deepgen.scoring.http import (
    GIVE_UP_AFTER,
    CircuitBreaker,
    HttpError,
    request_json,
    with_retries,
)
from tests.scoring.servers import Said, serve


@contextmanager
def raw_server(pieces: list[bytes], pause_seconds: float = 0.0) -> Iterator[str]:
    """Sends bytes piece by piece, whatever is asked, and closes the connection."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1 << 16)
            for piece in pieces:
                try:
                    connection.sendall(piece)
                except OSError:
                    return
                time.sleep(pause_seconds)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    thread.join()
    listener.close()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n"


def test_an_object_goes_out_and_one_comes_back() -> None:
    with serve(lambda heard: Said({"heard": heard.body, "path": heard.path})) as server:
        assert request_json(f"{server.url}/a", {"ü": [1]}, timeout_seconds=5.0) == {
            "heard": {"ü": [1]},
            "path": "/a",
        }
        assert request_json(f"{server.url}/b", timeout_seconds=5.0)["heard"] == {}


def test_an_answer_that_breaks_off_is_a_failure() -> None:
    with (
        raw_server([HEAD, b'{"choices": []}']) as url,
        pytest.raises(HttpError, match="IncompleteRead"),
    ):
        request_json(url, timeout_seconds=5.0)


def test_an_answer_that_drips_is_given_up() -> None:
    start = time.monotonic()
    with (
        raw_server([HEAD, *[b" "] * 40], pause_seconds=0.05) as url,
        pytest.raises(HttpError, match="no answer in time"),
    ):
        try:
            request_json(url, timeout_seconds=0.2)
        finally:
            waited = time.monotonic() - start
    assert waited < 1.5


def test_an_endless_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_http, "LARGEST_REPLY", 1000)
    with (
        serve(lambda heard: Said({"long": "x" * 2000})) as server,
        pytest.raises(HttpError, match="larger than 1,000 bytes"),
    ):
        request_json(server.url, timeout_seconds=5.0)


@pytest.mark.parametrize(
    ("status", "temporary"),
    [(500, True), (503, True), (529, True), (429, True), (408, True), (400, False), (404, False)],
)
def test_some_failures_may_pass(status: int, temporary: bool) -> None:
    with serve(lambda heard: Said({}, status=status)) as server, pytest.raises(HttpError) as told:
        request_json(server.url, timeout_seconds=5.0)
    assert (told.value.status, told.value.temporary) == (status, temporary)


def test_the_last_failure_is_told_after_all_tries() -> None:
    tries = iter(range(10))

    def fail() -> None:
        raise HttpError(f"failure {next(tries)}")

    with pytest.raises(HttpError, match="failure 2"):
        with_retries(fail, attempts=3, backoff_seconds=0.001)


def test_breaker_ends_only_with_failures_in_a_row() -> None:
    breaker = CircuitBreaker()
    assert not any(breaker.failed() for _ in range(GIVE_UP_AFTER - 1))
    breaker.succeeded()
    assert not any(breaker.failed() for _ in range(GIVE_UP_AFTER - 1))
    assert breaker.failed()
