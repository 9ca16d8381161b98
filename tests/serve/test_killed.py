"""The server ends without a word, under load, and comes back at the same address."""

from __future__ import annotations

import base64
import json
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image

import deepgen.serve.server
from deepgen.cli.main import main
from tests.serve.stub import READY, StubEngine, color

CLIENTS = 6


def serve(port: int, out: Connection, log: Connection) -> None:
    """``deepgen serve`` with a stub engine, in a process of its own."""
    deepgen.serve.server.EngineClient = StubEngineOfTheServer  # type: ignore[misc]
    sys.stdout = os.fdopen(os.dup(out.fileno()), "w")
    sys.stderr = os.fdopen(os.dup(log.fileno()), "w")
    logging.getLogger().handlers.clear()
    sys.exit(main(["serve", "--port", str(port)]))


class StubEngineOfTheServer(StubEngine):
    def __init__(self, settings: Mapping[str, Any], *, max_queue: int) -> None:
        super().__init__(max_queue=max_queue, step_seconds=0.01)

    def start(self) -> None:
        super().start()
        self.on_ready(READY)


class ServerProcess:
    """A server, at its address once there is one.

    Args:
        port: 0 for a free one.
    """

    def __init__(self, port: int = 0) -> None:
        outputs = [os.pipe() for _ in range(2)]
        ends = [Connection(each[1]) for each in outputs]
        # Forked from a process without threads, unlike this one: that takes no time, and no lock
        # of another thread is copied.
        clean = multiprocessing.get_context("forkserver")
        clean.set_forkserver_preload([__name__])
        self.process = clean.Process(target=serve, args=(port, *ends))
        self.process.start()
        for each in ends:
            each.close()
        out, log = (os.fdopen(each[0]) for each in outputs)
        self.url = out.readline().strip()
        out.close()
        self._log = log

    def kill(self, number: signal.Signals) -> int | None:
        """Send a signal, and wait for the end: the exit code."""
        assert self.process.pid is not None
        os.kill(self.process.pid, number)
        self.process.join(20)
        return self.process.exitcode

    def log(self) -> list[str]:
        """All lines, once it has ended."""
        with self._log as log:
            return log.read().splitlines()


@pytest.fixture(autouse=True)
def _can_fork() -> None:
    if not hasattr(os, "fork"):
        pytest.skip("this system cannot fork")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_it_once_what_runs_is_done_and_the_log_has_one_format(
    number: signal.Signals, code: int
) -> None:
    server = ServerProcess()
    url = f"{server.url}/v1/images/generations"
    values = {"prompt": "a cat", "steps": 20, "stream": True, "progress": True}
    with httpx2.stream("POST", url, json=values, timeout=60) as found:
        lines = found.iter_lines()
        while '"running"' not in next(lines):
            pass
        with ThreadPoolExecutor(1) as pool:
            ended = pool.submit(server.kill, number)
            assert any("image_generation.completed" in line for line in lines)
            assert ended.result() == code
    log = server.log()
    if number == signal.SIGINT:
        assert log.pop() == "error: interrupted"
    events = [json.loads(each) for each in log]
    assert [each["event"] for each in events] == ["loading", "ready", "request"]
    assert events[1]["address"] == server.url
    assert server.url in events[1]["message"]
    assert all(each["level"] == "info" and each["time"].endswith("Z") for each in events)


class Visitor:
    """Asks again and again, with or without a stream.

    Args:
        client: With which it asks.
        number: Its seed.
    """

    def __init__(self, client: httpx2.Client, number: int) -> None:
        self.client, self.number = client, number
        self.ends: list[str] = []
        """What came of each request."""

    def visit(self, end: threading.Event) -> None:
        """Until the event."""
        is_stream = bool(self.number % 2)
        values: dict[str, Any] = {"prompt": "a cat", "seed": self.number, "steps": 5}
        while not end.is_set():
            try:
                found = self.client.post(
                    "/v1/images/generations", json={**values, "stream": is_stream}
                )
            except httpx2.HTTPError:
                self.ends.append("error")
                time.sleep(0.02)
                continue
            assert found.status_code == 200
            if is_stream:
                content = json.loads(found.text.split("data: ")[-1])["b64_json"]
            else:
                content = found.json()["data"][0]["b64_json"]
            with Image.open(BytesIO(base64.b64decode(content))) as image:
                assert image.convert("RGB").getpixel((0, 0)) == color("a cat", self.number)
            self.ends.append("image")


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_clients_of_a_killed_server_get_an_error_or_their_image_and_it_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    server, end = ServerProcess(), threading.Event()
    url = server.url
    with httpx2.Client(base_url=url, timeout=20) as client, ThreadPoolExecutor(CLIENTS) as pool:
        visitors = [Visitor(client, number) for number in range(CLIENTS)]
        asked = [pool.submit(each.visit, end) for each in visitors]
        try:
            wait_for(lambda: all("image" in each.ends for each in visitors))
            server.kill(signal.SIGKILL)
            wait_for(lambda: all("error" in each.ends for each in visitors))
            server = ServerProcess(int(url.rpartition(":")[2]))
            assert server.url == url
            wait_for(lambda: all(each.ends[-1] == "image" for each in visitors))
        finally:
            end.set()
            server.kill(signal.SIGKILL)
        for each in asked:
            each.result()
    assert list(tmp_path.iterdir()) == []
