"""Carrying out a request: its images from the engine, as one answer or as a stream of events."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from deepgen.images.signing import Signer
from deepgen.serve.encoding import encoded, encoded_preview, in_thread, to_json
from deepgen.serve.engine_client import Command, EngineClient
from deepgen.serve.errors import ApiError
from deepgen.serve.metrics import Metrics
from deepgen.serve.requests import ImageRequest
from deepgen.serve.worker import read_image_frame

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 10.0
"""Between comment lines of a stream in which nothing happens."""


@dataclass(kw_only=True)
class Generation:
    """One request on its way.

    Args:
        request: What to make.
        identifier: Of the request.
        client: Who asks.
        engine: Makes the images.
        metrics: Of the server.
        model: Its name.
        seconds: Until it is given up.
        signer: Signs its images.
    """

    request: ImageRequest
    identifier: str
    client: str
    engine: EngineClient
    metrics: Metrics
    model: str
    seconds: float
    signer: Signer | None = None
    started: float = field(default_factory=time.monotonic)
    queue_seconds: float = 0.0
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    announced: int = field(init=False)
    """Images that the engine has not been asked for yet."""

    def __post_init__(self) -> None:
        self.announced = self.request.count

    def cancel(self) -> None:
        """End it early, on request of its client."""
        self.cancelled.set()

    async def answer(self) -> dict[str, Any]:
        """All images, as one object.

        Raises:
            ApiError: One failed, so all did; or it was cancelled.
        """
        commands = self.request.commands(self.client)
        work = asyncio.ensure_future(self._images(commands))
        stopped = asyncio.ensure_future(self.cancelled.wait())
        try:
            either: set[asyncio.Future[Any]] = {work, stopped}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                self.metrics.cancelled.labels("client").inc()
                raise ApiError("cancelled", "the request was cancelled")
            images = work.result()
        finally:
            stopped.cancel()
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
        data = []
        for command, image in zip(commands, images, strict=True):
            seed = command.values["seed"]
            content = await self._file(image, seed)
            data.append({"b64_json": content, "seed": seed, "revised_prompt": None})
        self.metrics.images.inc(len(data))
        return {
            "created": int(time.time()),
            "data": data,
            **self._described(images[0]),
            "usage": self._usage(images),
            "deepgen": self._own(images[0]),
        }

    async def _images(self, commands: Sequence[Command]) -> list[Image.Image]:
        """All of them; when one fails, the others are cancelled."""
        tasks = [asyncio.ensure_future(self._image(each)) for each in commands]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _image(self, command: Command) -> Image.Image:
        # Without a pause until it is registered there.
        self.announced -= 1
        async for frame in self.engine.run(command, seconds=self.seconds):
            if frame.values["kind"] == "started":
                self._begin()
            if frame.values["kind"] == "finished":
                image = read_image_frame("RGB", frame.values, frame.blobs[0])
                return await in_thread(self.request.finished, image)
        raise ApiError("internal_error", "the engine ended without an image")

    async def events(self) -> AsyncIterator[str]:
        """Server-sent events of one image; errors are events, too."""
        queue: asyncio.Queue[str | None] = asyncio.Queue(maxsize=8)
        work = asyncio.create_task(self._produce(queue))
        is_first = True
        try:
            while True:
                try:
                    text = await asyncio.wait_for(queue.get(), HEARTBEAT_SECONDS)
                except TimeoutError:
                    yield ": still working\n\n"
                    continue
                if text is None:
                    return
                if is_first:
                    is_first = False
                    seconds = time.monotonic() - self.started
                    self.metrics.first_event_seconds.observe(seconds)
                yield text
        finally:
            # Also where the client has gone: then the engine is told at once.
            if not work.done():
                self.metrics.cancelled.labels("disconnected").inc()
                work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    async def _produce(self, queue: asyncio.Queue[str | None]) -> None:
        stopped = asyncio.create_task(self._stop_when_cancelled(asyncio.current_task()))
        try:
            async for name, values in self._stream():
                await queue.put(_event(name, values))
        except ApiError as error:
            await queue.put(_event("error", {"type": "error", **error.body}))
        except asyncio.CancelledError:
            if not self.cancelled.is_set():
                raise
            ended = ApiError("cancelled", "the request was cancelled")
            await queue.put(_event("error", {"type": "error", **ended.body}))
        except Exception:
            logger.exception("request %s failed", self.identifier)
            fault = ApiError("internal_error", "the server made a mistake; its log says more")
            await queue.put(_event("error", {"type": "error", **fault.body}))
        finally:
            stopped.cancel()
        # Not where the reader has gone, who waits for nothing.
        await queue.put(None)

    async def _stop_when_cancelled(self, task: asyncio.Task[Any] | None) -> None:
        await self.cancelled.wait()
        self.metrics.cancelled.labels("client").inc()
        if task is not None:
            task.cancel()

    async def _stream(self) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        request = self.request
        (command,) = request.commands(self.client)
        seed = command.values["seed"]
        partials, times = 0, [time.monotonic()]
        if request.progress:
            yield self._progress("queued", position=self.engine.waiting)
        # Without a pause until it is registered there.
        self.announced -= 1
        async for frame in self.engine.run(command, seconds=self.seconds):
            values, kind = frame.values, frame.values["kind"]
            if kind == "started":
                self._begin()
                times = [time.monotonic()]
            if kind == "position" and request.progress:
                yield self._progress("queued", position=values["position"])
            elif kind in ("started", "step") and request.progress:
                step = values["step"]
                if kind == "step":
                    times.append(time.monotonic())
                # By the later half of the steps, since the first ones may be slow.
                middle = (len(times) - 1) // 2
                each = (times[-1] - times[middle]) / max(1, len(times) - 1 - middle)
                eta = round(each * (request.steps - step), 2)
                yield self._progress("running", step=step, eta_seconds=eta if step else None)
            elif kind == "preview" and request.progress:
                content = await encoded_preview(read_image_frame("RGB", values, frame.blobs[0]))
                name = "deepgen.preview"
                own = {"type": name, "step": values["step"], "output_format": "jpeg"}
                yield name, {**own, "b64_json": content}
            elif kind in ("partial", "finished"):
                made = read_image_frame("RGB", values, frame.blobs[0])
                image = await in_thread(request.finished, made)
                content = await self._file(image, seed)
                common = {"b64_json": content, "created_at": int(time.time())}
                # Events always have a quality; "auto" says that the steps were given.
                common |= {"quality": "auto", **self._described(image)}
                if kind == "partial":
                    name = f"{request.kind}.partial_image"
                    yield name, {"type": name, "partial_image_index": partials, **common}
                    partials += 1
                    continue
                self.metrics.images.inc()
                name = f"{request.kind}.completed"
                own = {"usage": self._usage([image]), "seed": seed, "deepgen": self._own(image)}
                yield name, {"type": name, **common, **own}

    async def _file(self, image: Image.Image, seed: int) -> str:
        """Base64 of an image's file."""
        return await encoded(image, self.request, seed=seed, model=self.model, signer=self.signer)

    def _begin(self) -> None:
        if not self.queue_seconds:
            self.queue_seconds = time.monotonic() - self.started
            self.metrics.queue_seconds.observe(self.queue_seconds)

    def _progress(self, state: str, **values: Any) -> tuple[str, dict[str, Any]]:
        name = "deepgen.progress"
        own = {"position": None, "step": 0, "steps": self.request.steps, "eta_seconds": None}
        return name, {
            "type": name,
            "request_id": self.identifier,
            "state": state,
            **own,
            **values,
        }

    def _described(self, image: Image.Image) -> dict[str, Any]:
        request = self.request
        values: dict[str, Any] = {
            "background": "opaque",
            "output_format": request.format,
            "size": f"{image.width}x{image.height}",
        }
        if request.quality is not None:
            values["quality"] = request.quality
        if request.safety_identifier:
            values["safety_identifier"] = request.safety_identifier
        return values

    def _own(self, image: Image.Image) -> dict[str, Any]:
        return {
            "request_id": self.identifier,
            "steps": self.request.steps,
            "guidance": self.request.guidance,
            **self.request.solver.changed,
            "width": image.width,
            "height": image.height,
            "model": self.model,
            "seconds": round(time.monotonic() - self.started, 3),
            "queue_seconds": round(self.queue_seconds, 3),
        }

    def _usage(self, images: Sequence[Image.Image]) -> dict[str, Any]:
        """Counts, not a bill: four characters are a token of text, 16 x 16 pixels of an image."""
        texts = [self.request.prompt, self.request.negative_prompt or ""]
        text = sum(-(-len(each) // 4) for each in texts)
        seen = sum(_tokens(each) for each in self.request.images)
        made = sum(_tokens(each) for each in images)
        return {
            "input_tokens": text + seen,
            "input_tokens_details": {"text_tokens": text, "image_tokens": seen},
            "output_tokens": made,
            "output_tokens_details": {"image_tokens": made, "text_tokens": 0},
            "total_tokens": text + seen + made,
        }


def _tokens(image: Image.Image) -> int:
    return -(-image.width // 16) * -(-image.height // 16)


def _event(name: str, values: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {to_json(values)}\n\n"
