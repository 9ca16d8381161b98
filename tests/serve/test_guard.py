"""Who is let in, and with how much."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from deepgen.config.serve import ServeConfig
from deepgen.serve.errors import ApiError
from deepgen.serve.guard import FAILED_KEYS, Guard
from deepgen.serve.limits import ByteBudget, RateLimit
from deepgen.serve.logs import JsonLines
from deepgen.serve.protocol import TimedProtocol
from tests.serve.stub import Running, StubEngine, running

KEY = "a-key-of-some-length"


@pytest.fixture(scope="module")
def here() -> Iterator[Running]:
    with running(allow_host=("images.example",), allow_origin=("https://app.example",)) as found:
        yield found


@pytest.fixture(scope="module")
def locked() -> Iterator[Running]:
    keys = (("ann", KEY), ("ben", "another-key-of-length"))
    with running(keys=keys, max_upload_bytes=1 << 20, images_per_minute=3) as found:
        yield found


def status(here: Running, path: str = "/v1/models", **headers: str) -> tuple[int, str | None]:
    own = {name.replace("_", "-"): value for name, value in headers.items()}
    found = httpx2.get(here.url + path, headers=own)
    is_json = "json" in found.headers.get("content-type", "")
    code = found.json().get("error", {}).get("code") if is_json else None
    return found.status_code, code


def test_only_our_own_names_are_answered(here: Running) -> None:
    port = here.url.rsplit(":", 1)[1]
    for host in (
        f"127.0.0.1:{port}",
        f"localhost:{port}",
        "[::1]",
        "192.168.1.5",
        "images.example",
    ):
        assert status(here, host=host) == (200, None)
    for host in ("evil.example", "localhost.evil.example", "a@localhost", "127.0.0.1.evil.example"):
        assert status(here, host=host) == (400, "invalid_host")
    assert status(here, "/healthz", host="probe.internal") == (200, None)


def test_pages_of_other_servers_are_refused(here: Running) -> None:
    own = here.url
    for origin in (own, own.replace("http", "https"), "https://app.example"):
        assert status(here, origin=origin) == (200, None)
    for origin in (
        "null",
        "http://[",
        "https://evil.example",
        own + "0",
        "file://",
        "http://localhost:1",
    ):
        assert status(here, origin=origin) == (403, "forbidden_origin")
    for site, expected in [
        ("same-origin", 200),
        ("none", 200),
        ("cross-site", 403),
        ("same-site", 403),
    ]:
        assert status(here, sec_fetch_site=site)[0] == expected
    options = {"sec_fetch_site": "cross-site", "origin": "https://app.example"}
    assert status(here, **options) == (200, None)
    # A link to the page may be followed from anywhere.
    assert status(here, "/", sec_fetch_site="cross-site", sec_fetch_mode="navigate")[0] == 200
    assert status(here, "/", sec_fetch_site="cross-site", sec_fetch_mode="no-cors")[0] == 403


def test_answers_cannot_be_misread(here: Running) -> None:
    found = httpx2.get(f"{here.url}/")
    assert found.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in found.headers["content-security-policy"]
    assert "server" not in found.headers
    assert found.headers["x-request-id"].startswith("req_")


def test_a_listed_page_may_ask_from_elsewhere_and_no_other(here: Running) -> None:
    headers = {"origin": "https://app.example", "access-control-request-method": "POST"}
    allowed = httpx2.options(f"{here.url}/v1/images/generations", headers=headers)
    assert allowed.status_code == 204
    assert allowed.headers["access-control-allow-origin"] == "https://app.example"
    assert "access-control-allow-credentials" not in allowed.headers
    found = httpx2.get(f"{here.url}/v1/models", headers={"origin": "https://app.example"})
    assert found.headers["access-control-allow-origin"] == "https://app.example"
    assert "access-control-allow-origin" not in httpx2.get(f"{here.url}/v1/models").headers


def test_a_key_is_needed_where_there_are_keys(locked: Running) -> None:
    for scheme in ("Bearer", "bearer", "BEARER"):
        assert status(locked, authorization=f"{scheme} {KEY}") == (200, None)
    assert status(locked) == (401, "invalid_api_key")
    for path in ("/healthz", "/readyz", "/"):
        assert status(locked, path) == (200, None)
    for path in ("/metrics", "/v1/capabilities", "/openapi.json"):
        assert status(locked, path) == (401, "invalid_api_key")


def test_wrong_keys_may_be_tried_a_few_times(locked: Running) -> None:
    tries = [status(locked, authorization="Bearer wrong") for _ in range(12)]
    assert tries[-1] == (429, "rate_limit_exceeded")
    assert (401, "invalid_api_key") in tries
    # Behind a proxy everybody has one address.
    assert status(locked, authorization=f"Bearer {KEY}") == (200, None)
    locked_guard: Any = locked.guard
    locked_guard._failures.clear()


def test_wrong_keys_of_many_addresses_do_not_clear_the_count_of_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("deepgen.serve.guard.MAX_ADDRESSES", 3)
    guard: Any = Guard(StubEngine, ServeConfig(), ByteBudget(1), lambda *_: None)  # type: ignore[arg-type]

    def code(address: str) -> str:
        with pytest.raises(ApiError) as found:
            guard._refuse_key(address)
        return found.value.code

    for number in range(FAILED_KEYS):
        # One client has many addresses of an IPv6 network.
        assert code(f"2001:db8::{number + 1:x}") == "invalid_api_key"
        assert code(f"10.0.0.{number}") == "invalid_api_key"
    assert code("2001:db8::ffff") == "rate_limit_exceeded"
    assert code("2001:db8:0:1::1") == "invalid_api_key"
    assert code("::ffff:10.0.0.1") == "invalid_api_key"
    assert len(guard._failures) == 3


def test_a_client_has_so_many_images_a_minute(locked: Running) -> None:
    def ask(key: str, **fields: Any) -> httpx2.Response:
        url = f"{locked.url}/v1/images/generations"
        headers = {"authorization": f"Bearer {key}"}
        return httpx2.post(url, json={"prompt": "a", **fields}, headers=headers)

    assert ask(KEY, n=3).status_code == 200
    refused = ask(KEY)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert 1 <= int(refused.headers["retry-after"]) <= 120
    assert refused.headers["x-should-retry"] == "true"
    assert ask("another-key-of-length").status_code == 200


def test_the_bucket_is_refilled_evenly() -> None:
    now = 0.0
    limit = RateLimit(ServeConfig(images_per_minute=60), clock=lambda: now)
    limit.take("a", 60)
    limit.take("b", 1)
    now = 1.0
    limit.take("a", 1)
    with pytest.raises(ApiError, match="60 images a minute are the limit; try again in 1 s"):
        limit.take("a", 1)
    assert RateLimit(ServeConfig()).per_minute is None
    assert RateLimit(ServeConfig(host="0.0.0.0")).per_minute == 60


def test_large_bodies_are_refused_declared_or_not(locked: Running) -> None:
    url, headers = f"{locked.url}/v1/images/edits", {"authorization": f"Bearer {KEY}"}
    large = b"x" * (2 << 20)
    declared = httpx2.post(url, files={"image": large}, data={"prompt": "a"}, headers=headers)
    assert (declared.status_code, declared.json()["error"]["code"]) == (413, "payload_too_large")

    def pieces() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        for _ in range(32):
            yield b"x" * (1 << 16)

    kind = {"content-type": "multipart/form-data; boundary=x"}
    chunked = httpx2.post(url, content=pieces(), headers={**headers, **kind})
    assert (chunked.status_code, chunked.json()["error"]["code"]) == (413, "payload_too_large")
    field = httpx2.post(url, files={"image": b"x"}, data={"prompt": "a" * 100_000}, headers=headers)
    assert field.json()["error"]["code"] in ("payload_too_large", "invalid_value")
    many = httpx2.post(
        url, files={f"f{index}": b"x" for index in range(30)}, data={"prompt": "a"}, headers=headers
    )
    assert many.json()["error"]["code"] == "invalid_value"
    budget = locked.server.budget
    deadline = time.monotonic() + 5
    while budget.used and time.monotonic() < deadline:
        time.sleep(0.01)
    assert budget.used == 0


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"POST /v1/images/gen",
        b"POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\nX-A: b\r\n",
        b"POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json"
        b"\r\nContent-Length: 100\r\n\r\n{",
    ],
    ids=["nothing", "half a line", "half the headers", "half a body"],
)
def test_slow_requests_are_closed_and_others_served(
    here: Running, monkeypatch: pytest.MonkeyPatch, start: bytes
) -> None:
    monkeypatch.setattr("deepgen.serve.protocol.HEADER_SECONDS", 0.3)
    monkeypatch.setattr("deepgen.serve.protocol.BODY_SECONDS", 0.3)
    host, port = here.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as slow:
        slow.sendall(start)
        slow.settimeout(5)
        time.sleep(0.1)
        if start:
            # More bytes do not buy more time.
            slow.sendall(b" ")
        assert status(here) == (200, None)
        while slow.recv(4096):
            pass


@pytest.mark.parametrize(
    "second",
    [
        b"GET /healthz HTTP/1.1\r\nHost: loc",
        b"POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
    ],
    ids=["half the headers", "half a body"],
)
def test_half_a_request_behind_a_whole_one_is_closed_once_that_is_answered(
    here: Running, monkeypatch: pytest.MonkeyPatch, second: bytes
) -> None:
    monkeypatch.setattr("deepgen.serve.protocol.HEADER_SECONDS", 0.3)
    monkeypatch.setattr("deepgen.serve.protocol.BODY_SECONDS", 0.3)
    host, port = here.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n" + second)
        client.settimeout(5)
        answer = b""
        while part := client.recv(4096):
            answer += part
        assert answer.startswith(b"HTTP/1.1 200") and b'"object":"list"' in answer
    assert status(here) == (200, None)


def test_the_second_half_may_come_in_time(here: Running) -> None:
    host, port = here.url.removeprefix("http://").split(":")
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.create_connection((host, int(port))) as client:
        client.settimeout(5)
        client.sendall(request + request[:20])
        answer = client.recv(4096)
        client.sendall(request[20:])
        while answer.count(b'"status":"ok"') < 2:
            answer += client.recv(4096)
        assert answer.count(b"HTTP/1.1 200") == 2


def test_large_headers_are_refused_at_once_or_in_drips(here: Running) -> None:
    host, port = here.url.removeprefix("http://").split(":")
    head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A: "
    for content in (head + b"a" * (17 << 10) + b"\r\n\r\n", head + b"a" * (17 << 10)):
        with socket.create_connection((host, int(port))) as client:
            client.settimeout(5)
            client.sendall(content)
            answer = b""
            with contextlib.suppress(ConnectionResetError):
                while part := client.recv(4096):
                    answer += part
        assert answer.startswith((b"HTTP/1.1 431", b"HTTP/1.1 400"))
        assert b'"error"' in answer
    with socket.create_connection((host, int(port))) as client:
        client.sendall(head + b"a" * (15 << 10) + b"\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 200")


def test_a_client_that_stops_reading_is_closed_and_others_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("deepgen.serve.protocol.READER_SECONDS", 0.2)
    engine = StubEngine(step_seconds=0.02)
    with running(engine, max_pixels=1 << 20) as here:
        host, port = here.url.removeprefix("http://").split(":")
        # Small buffers of the system's, so that little has to be sent until they are full.
        for each in here.sockets:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect((host, int(port)))
            values = {"prompt": "noise", "size": "256x256", "steps": 60, "stream": True}
            body = json.dumps({**values, "partial_images": 3}).encode()
            head = f"Host: localhost\r\nContent-Length: {len(body)}\r\n"
            head += "Content-Type: application/json\r\n\r\n"
            client.sendall(f"POST /v1/images/generations HTTP/1.1\r\n{head}".encode() + body)
            deadline = time.monotonic() + 10
            while not engine.cancelled:
                assert status(here) == (200, None)
                assert time.monotonic() < deadline
                time.sleep(0.02)
            while here.server.running:
                assert time.monotonic() < deadline
                time.sleep(0.01)


def test_a_long_stream_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepgen.serve.protocol.HEADER_SECONDS", 0.1)
    monkeypatch.setattr("deepgen.serve.protocol.BODY_SECONDS", 0.1)
    with running(StubEngine(step_seconds=0.03)) as here:
        values = {"prompt": "a cat", "stream": True, "steps": 20}
        found = httpx2.post(f"{here.url}/v1/images/generations", json=values)
        assert "image_generation.completed" in found.text


def test_an_address_has_so_many_connections(here: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepgen.serve.protocol.MAX_PER_ADDRESS", 2)
    monkeypatch.setattr("deepgen.serve.protocol.LOOPBACK", ())
    host, port = here.url.removeprefix("http://").split(":")
    TimedProtocol.per_address.clear()
    sockets = [socket.create_connection((host, int(port))) for _ in range(3)]
    time.sleep(0.1)
    sockets[2].settimeout(5)
    with pytest.raises(ConnectionError):
        sockets[2].sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        if not sockets[2].recv(100):
            raise ConnectionError
    for each in sockets:
        each.close()


def test_logs_and_metrics_have_no_prompt_no_key_and_no_name(
    locked: Running, caplog: pytest.LogCaptureFixture
) -> None:
    marker = "marker-4711"
    with caplog.at_level(logging.INFO):
        url = f"{locked.url}/v1/images/generations"
        headers = {"authorization": "Bearer another-key-of-length", "x-custom": marker}
        values = {"prompt": marker, "user": marker, "model": marker}
        httpx2.post(url, json=values, headers=headers)
        httpx2.post(url, json={"prompt": marker, "n": 1}, headers=headers)
        httpx2.get(f"{locked.url}/{marker}", headers=headers)
    metrics = httpx2.get(f"{locked.url}/metrics", headers=headers).text
    assert "deepgen_requests_total" in metrics
    assert 'endpoint="/v1/images/generations",status="200"' in metrics

    def lines() -> list[dict[str, Any]]:
        records = [each for each in caplog.records if each.name == "deepgen.serve.requests"]
        return [json.loads(JsonLines().format(each)) for each in records]

    # A line is written after the answer.
    deadline = time.monotonic() + 5
    while len(lines()) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    ours = "".join(e.message for e in caplog.records if e.name.startswith("deepgen"))
    for text in (ours, metrics):
        assert marker not in text
        assert "another-key" not in text
    assert {each["status"] for each in lines()} >= {200, 404}
    assert {each["event"] for each in lines()} == {"request"}
