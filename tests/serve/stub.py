"""A server with an engine that makes plain images at once, or misbehaves as the prompt says."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import uvicorn
from PIL import Image

from deepgen.checkpoint.finding import find_model
from deepgen.config.serve import ServeConfig
from deepgen.serve.app import Server
from deepgen.serve.engine_client import EngineClient
from deepgen.serve.frames import Frame
from deepgen.serve.guard import App
from deepgen.serve.server import HTTP_SETTINGS
from deepgen.serve.worker import image_frame

READY = {
    "device": "cpu",
    "dtype": "float32",
    "rows": 8,
    "tokens": 1 << 17,
    "seconds": 0.1,
    "seconds_per_token": 0.0,
}


def color(prompt: str, seed: int) -> tuple[int, int, int]:
    """Of the image of a prompt and seed."""
    red, green, blue = hashlib.sha256(f"{prompt} {seed}".encode()).digest()[:3]
    return red, green, blue


class StubEngine(EngineClient):
    """Answers in this process.

    The prompt ``slow`` takes long, ``fail CODE`` fails, ``noise`` makes large files.
    """

    def __init__(self, *, max_queue: int = 64, step_seconds: float = 0.0) -> None:
        super().__init__({}, max_queue=max_queue)
        self.step_seconds = step_seconds
        self.submitted: list[dict[str, Any]] = []
        self.cancelled: list[str] = []
        self.silent = False
        """Whether jobs are left waiting."""
        self.fails_seed = -1
        self._drawing: dict[str, asyncio.Task[None]] = {}

    def start(self) -> None:
        self.ready = READY

    async def close(self) -> None:
        for task in self._drawing.values():
            task.cancel()

    def _send(self, frame: Frame) -> None:
        values = frame.values
        if values["op"] == "cancel":
            self.cancelled.append(values["id"])
            if values["id"] in self._drawing:
                self._drawing.pop(values["id"]).cancel()
            return
        self.submitted.append({**values, "blobs": frame.blobs})
        if self.silent:
            return
        self._drawing[values["id"]] = asyncio.create_task(self._draw(values))

    async def _draw(self, values: dict[str, Any]) -> None:
        def tell(kind: str, image: Image.Image | None = None, **own: Any) -> None:
            size: dict[str, int] = {}
            blobs: list[bytes] = []
            if image is not None:
                size, data = image_frame(image)
                blobs = [data]
            common = {"op": "event", "id": values["id"], "kind": kind, "step": 0}
            self._deliver(Frame({**common, **size, **own}, blobs))

        prompt, size = values["prompt"], (values["width"] or 64, values["height"] or 64)
        if values["images"] and values["width"] is None:
            size = (values["images"][0]["width"], values["images"][0]["height"])
        image = Image.new("RGB", size, color(prompt, values["seed"]))
        if prompt == "noise":
            image = Image.frombytes("RGB", size, os.urandom(3 * size[0] * size[1]))
        if prompt.startswith("fail "):
            tell("failed", code=prompt.removeprefix("fail "), message="as the prompt says")
            return
        tell("started")
        if values["seed"] == self.fails_seed:
            tell("failed", code="non_finite", message="as the test says")
            return
        for step in range(1, values["steps"] + 1):
            await asyncio.sleep(30 if prompt == "slow" else self.step_seconds)
            tell("step", step=step)
            if values["preview_every"] and step % values["preview_every"] == 0:
                tell("preview", image.resize((8, 8)), step=step)
            if step in values["partial_steps"]:
                tell("partial", image, step=step)
                # So that the reader gets it before the next one.
                await asyncio.sleep(0)
        tell("finished", image, step=values["steps"])


class Running:
    """A server in a thread."""

    def __init__(
        self,
        server: Server,
        guard: App,
        engine: StubEngine,
        url: str,
        sockets: Sequence[socket.socket] = (),
    ) -> None:
        self.sockets = sockets
        """That listen."""
        self.server = server
        self.guard = guard
        self.engine = engine
        self.url = url


@contextmanager
def running(engine: StubEngine | None = None, **settings: Any) -> Iterator[Running]:
    """A server of the embedded model's sizes with a stub engine, on a free port."""
    config = ServeConfig(**settings)
    engine = engine or StubEngine(max_queue=config.max_queue)
    server = Server(config, find_model("mini"), engine)
    guard = server.application()
    web = uvicorn.Server(uvicorn.Config(guard, port=0, **HTTP_SETTINGS))
    thread = threading.Thread(target=web.run, daemon=True)
    thread.start()
    while not web.started:
        assert thread.is_alive()
        time.sleep(0.01)
    port = web.servers[0].sockets[0].getsockname()[1]
    try:
        yield Running(server, guard, engine, f"http://127.0.0.1:{port}", web.servers[0].sockets)
    finally:
        web.should_exit = True
        thread.join(10)
