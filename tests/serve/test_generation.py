"""Requests that end early: their clients go, cancel, or the server is stopped."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from PIL import Image

from deepgen.images.records import stored_record
from tests.serve.stub import READY, Running, StubEngine, running


@pytest.fixture
def here() -> Iterator[Running]:
    with running(StubEngine(max_queue=4)) as found:
        yield found


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def send(here: Running, **values: Any) -> socket.socket:
    """A request on a connection of its own, not waited for."""
    body = json.dumps({"prompt": "slow", **values}).encode()
    host, port = here.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)))
    head = f"POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}"
    connection.sendall(f"{head}\r\nContent-Type: application/json\r\n\r\n".encode() + body)
    return connection


def in_thread(here: Running, found: list[httpx2.Response], **values: Any) -> threading.Thread:
    def ask() -> None:
        url = f"{here.url}/v1/images/generations"
        found.append(httpx2.post(url, json={"prompt": "slow", **values}, timeout=30))

    thread = threading.Thread(target=ask)
    thread.start()
    return thread


@pytest.mark.parametrize("stream", [False, True])
def test_when_a_client_goes_the_engine_is_told(here: Running, stream: bool) -> None:
    connection = send(here, stream=stream)
    eventually(lambda: len(here.engine.submitted) == 1)
    connection.close()
    eventually(lambda: len(here.engine.cancelled) == 1)
    eventually(lambda: not here.server.running)
    assert not here.engine._tasks


def test_all_images_of_a_request_end_with_it(here: Running) -> None:
    connection = send(here, n=3)
    eventually(lambda: len(here.engine.submitted) == 3)
    connection.close()
    eventually(lambda: len(here.engine.cancelled) == 3)


def test_when_one_image_fails_the_others_end(here: Running) -> None:
    here.engine.fails_seed = 2
    url = f"{here.url}/v1/images/generations"
    found = httpx2.post(url, json={"prompt": "slow", "n": 3, "seed": 1})
    assert (found.status_code, found.json()["error"]["code"]) == (500, "non_finite")
    eventually(lambda: len(here.engine.cancelled) == 2)


def test_a_fault_of_ours_ends_a_stream(here: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> str:
        raise OSError("no space left")

    monkeypatch.setattr("deepgen.serve.encoding._encoded", broken)
    url = f"{here.url}/v1/images/generations"
    found = httpx2.post(url, json={"prompt": "a", "stream": True}, timeout=10)
    assert '"code":"internal_error"' in found.text
    assert "no space" not in found.text
    eventually(lambda: not here.server.running)


def test_a_record_that_a_jpeg_cannot_hold_has_no_prompt(
    here: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deepgen.serve.encoding.MAX_EXIF_BYTES", 1000)
    values = {"prompt": "猫" * 300, "steps": 1}
    for kind in ("jpeg", "webp", "png"):
        url = f"{here.url}/v1/images/generations"
        found = httpx2.post(url, json={**values, "output_format": kind})
        record = stored_record(base64.b64decode(found.json()["data"][0]["b64_json"]))
        assert record["steps"] == 1
        assert ("prompt" in record) == (kind == "png")


def test_uploads_are_decoded_only_where_there_is_memory_for_them() -> None:
    content = BytesIO()
    Image.new("1", (2000, 2000)).save(content, format="PNG")
    assert len(content.getvalue()) < 1000
    with running(StubEngine(), max_open_bytes=20 << 20) as here:
        url = f"{here.url}/v1/images/edits"
        found = httpx2.post(url, data={"prompt": "a"}, files={"image": content.getvalue()})
        assert (found.status_code, found.json()["error"]["code"]) == (413, "image_too_large")
        eventually(lambda: here.server.budget.used == 0)


def test_a_request_can_be_cancelled(here: Running) -> None:
    found: list[httpx2.Response] = []
    thread = in_thread(here, found)
    eventually(lambda: bool(here.server.running))
    (identifier,) = here.server.running
    cancelled = httpx2.delete(f"{here.url}/v1/requests/{identifier}")
    assert cancelled.json() == {"id": identifier, "cancelled": True}
    thread.join(5)
    assert found[0].status_code == 499
    assert found[0].json()["error"]["code"] == "cancelled"
    assert httpx2.delete(f"{here.url}/v1/requests/{identifier}").status_code == 404


def test_a_stream_can_be_cancelled(here: Running) -> None:
    found: list[httpx2.Response] = []
    thread = in_thread(here, found, stream=True, progress=True)
    eventually(lambda: len(here.engine.submitted) == 1)
    (identifier,) = here.server.running
    httpx2.delete(f"{here.url}/v1/requests/{identifier}")
    thread.join(5)
    lines = found[0].text.splitlines()
    assert "event: error" in lines
    assert json.loads(lines[-2].removeprefix("data: "))["error"]["code"] == "cancelled"


def test_requests_beyond_the_queue_are_refused(here: Running) -> None:
    connections = [send(here) for _ in range(4)]
    tasks = here.engine._tasks
    eventually(lambda: len(tasks) == 4 and all(each.is_running for each in tasks.values()))
    # What runs does not wait; this stub runs everything.
    for task in tasks.values():
        task.is_running = False
    refused = httpx2.post(f"{here.url}/v1/images/generations", json={"prompt": "a"})
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    for each in connections:
        each.close()


def test_a_server_that_is_being_stopped_takes_nothing_new_and_ends_what_runs(
    here: Running,
) -> None:
    here.server.is_draining = True
    refused = httpx2.post(f"{here.url}/v1/images/generations", json={"prompt": "a"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
    assert refused.headers["x-should-retry"] == "true"
    assert httpx2.get(f"{here.url}/readyz").status_code == 503
    assert httpx2.get(f"{here.url}/healthz").status_code == 200


def test_a_quiet_stream_is_kept_alive(here: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepgen.serve.generation.HEARTBEAT_SECONDS", 0.05)
    connection = send(here, stream=True)
    connection.settimeout(5)
    received = b""
    while b": still working" not in received:
        received += connection.recv(4096)
    connection.close()


def test_without_an_engine_requests_may_come_again(here: Running) -> None:
    here.engine.ready = None
    for path in ("/readyz", "/v1/capabilities"):
        found = httpx2.get(here.url + path)
        assert found.status_code == (503 if path == "/readyz" else 200)
    refused = httpx2.post(f"{here.url}/v1/images/generations", json={"prompt": "a"})
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")


def test_images_of_accepted_requests_count_before_the_engine_has_them(here: Running) -> None:
    accepted = SimpleNamespace(announced=1, request=SimpleNamespace(price=1000.0))
    here.server.running["req_a"] = accepted  # type: ignore[assignment]
    for seconds_per_token, status in ((0.1, 200), (1.0, 429)):
        here.engine.ready = {**READY, "seconds_per_token": seconds_per_token}
        url = f"{here.url}/v1/images/generations"
        assert httpx2.post(url, json={"prompt": "an apple"}, timeout=30).status_code == status
    del here.server.running["req_a"]
