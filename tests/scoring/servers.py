"""A server on this machine that plays judges and workers, well or badly."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Said:
    """One answer of the server."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    hang_seconds: float = 0.0
    drop: bool = False
    """Close the connection without a word."""


@dataclass
class Heard:
    """One request to the server."""

    path: str
    body: dict[str, Any]
    headers: dict[str, str]


@dataclass
class Server:
    url: str
    heard: list[Heard] = field(default_factory=list)
    most_at_once: int = 0


@contextmanager
def serve(answer: Callable[[Heard], Said]) -> Iterator[Server]:
    lock = threading.Lock()
    stopped = threading.Event()
    at_once = 0

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._handle({})

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            self._handle(json.loads(self.rfile.read(length)))

        def _handle(self, body: dict[str, Any]) -> None:
            nonlocal at_once
            heard = Heard(self.path, body, dict(self.headers))
            with lock:
                at_once += 1
                server.most_at_once = max(server.most_at_once, at_once)
                server.heard.append(heard)
            said = answer(heard)
            stopped.wait(said.hang_seconds)
            with lock:
                at_once -= 1
            if not said.drop:
                self._send(said)

        def _send(self, said: Said) -> None:
            data = said.body if isinstance(said.body, bytes) else json.dumps(said.body).encode()
            try:
                self.send_response(said.status)
                for name, value in {"Content-Length": str(len(data)), **said.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)
            except ConnectionError:
                pass  # Whoever asked has given up.

        def log_message(self, *_: object) -> None:
            pass

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listener.daemon_threads = True
    server = Server(url=f"http://127.0.0.1:{listener.server_address[1]}")
    thread = threading.Thread(target=listener.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        stopped.set()
        listener.shutdown()
        listener.server_close()
        thread.join()


def completion(text: str | None, *, model: str = "stub-1", finish: str = "stop") -> Said:
    """A chat completion with one choice."""
    message = {"role": "assistant", "content": text}
    return Said({"model": model, "choices": [{"finish_reason": finish, "message": message}]})


def text_of(heard: Heard) -> str:
    """What a request says, without its images."""
    parts = [message["content"] for message in heard.body["messages"]]
    flat = [part for content in parts if isinstance(content, list) for part in content]
    return " ".join(part["text"] for part in flat if part["type"] == "text")


def unused_url() -> str:
    """An address where nobody listens."""
    with serve(lambda heard: Said()) as server:
        pass
    time.sleep(0.01)
    return server.url
