"""A server with an engine that paints plain images at once, for tests of the page."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import uvicorn
from PIL import Image

from deepgen.checkpoint.finding import find_model
from deepgen.config.serve import ServeConfig
from deepgen.serve.app import Server
from deepgen.serve.engine_client import Command, EngineClient
from deepgen.serve.errors import ApiError
from deepgen.serve.frames import Frame
from deepgen.serve.worker import image_frame
from tests.serve.stub import READY as STUB_READY

STEPS = 4

READY = {**STUB_READY, "seconds_per_token": 1e-6}


class PaintingEngine(EngineClient):
    """Paints a colour that the seed decides; edits keep the lower half of their first image."""

    def __init__(self) -> None:
        super().__init__({}, max_queue=64)
        self.commands: list[Command] = []
        """All that were asked for."""
        self.step_seconds = 0.0
        self.is_held = False
        """Whether running images stop after their first step."""
        self.busy_for = 0
        """So many requests are refused, since the queue is full."""
        self.cancelled = 0
        self.ready = READY

    def reset(self) -> None:
        """As new."""
        self.commands.clear()
        self.step_seconds, self.is_held, self.busy_for, self.cancelled = 0.0, False, 0, 0
        self.ready = READY

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Until it holds; it changes in the server's thread."""
        end = time.monotonic() + 5
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.005)

    def start(self) -> None:
        """There is no process."""

    async def close(self) -> None:
        """There is no process."""

    def check_room(self, count: int, seconds: float, accepted: Sequence[float] = ()) -> None:
        super().check_room(count, seconds, accepted)
        if self.busy_for:
            self.busy_for -= 1
            raise ApiError("queue_full", "many images are waiting", retry_after=1)

    async def run(self, command: Command, *, seconds: float) -> AsyncIterator[Frame]:
        self.commands.append(command)
        values, steps = command.values, command.values["steps"]
        is_done = False
        try:
            yield _frame("started", step=0)
            image = painted(command)
            for step in range(1, steps + 1):
                await asyncio.sleep(self.step_seconds)
                yield _frame("step", step=step)
                if values["preview_every"]:
                    size, data = image_frame(image.resize((8, 8)))
                    yield _frame("preview", data, step=step, **size)
                while self.is_held:
                    await asyncio.sleep(0.01)
            size, data = image_frame(image)
            is_done = True
            yield _frame("finished", data, step=steps, **size)
        finally:
            self.cancelled += not is_done


def _frame(kind: str, *blobs: bytes, **values: Any) -> Frame:
    return Frame({"op": "event", "id": "job", "kind": kind, **values}, blobs)


def painted(command: Command) -> Image.Image:
    """What the engine makes of a command."""
    values = command.values
    hue = values["seed"] * 67 % 256
    first = values["images"][0] if values["images"] else None
    width = values["width"] or (first["width"] if first else 64)
    height = values["height"] or (first["height"] if first else 64)
    rows, columns = np.mgrid[0:height, 0:width]
    planes = [np.full((height, width), hue), 255 * rows // height, 255 * columns // width]
    image = Image.fromarray(np.stack(planes, -1).astype(np.uint8), "HSV").convert("RGB")
    if first:
        source = Image.frombytes("RGB", (first["width"], first["height"]), command.blobs[0])
        half = source.resize((width, height)).crop((0, height // 2, width, height))
        image.paste(half, (0, height // 2))
    return image


class PageServer:
    """Runs in a thread of its own; can go away, and come back at the same address.

    Args:
        config: Settings; the port is a free one.
    """

    def __init__(self, config: ServeConfig | None = None) -> None:
        self.config = config or ServeConfig()
        self.engine = PaintingEngine()
        self.port = 0
        found = find_model("mini")
        # Few steps, since every one is an event and a preview.
        defaults = replace(found.defaults, num_inference_steps=STEPS)
        self.model = replace(found, defaults=defaults)
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen."""
        app = Server(self.config, self.model, self.engine).application()
        settings = uvicorn.Config(
            app,
            host="127.0.0.1",
            port=self.port,
            log_config=None,
            ws="none",
            timeout_graceful_shutdown=0,
        )
        self._server = uvicorn.Server(settings)
        self._server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.005)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]

    def stop(self) -> None:
        """Close all connections and the listener."""
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(10)
