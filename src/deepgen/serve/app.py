"""The HTTP interface: the OpenAI Images API with fields of ours, health, metrics, the page."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from PIL import Image
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from deepgen.checkpoint.finding import FoundModel
from deepgen.config.model import SIZE_UNIT
from deepgen.config.serve import SMALLEST_SIDE, ServeConfig
from deepgen.images.records import statement
from deepgen.images.signing import Signer
from deepgen.reading import parse_json
from deepgen.serve import uploads
from deepgen.serve.encoding import in_thread, to_json
from deepgen.serve.engine_client import EngineClient
from deepgen.serve.errors import ApiError
from deepgen.serve.examples import examples
from deepgen.serve.generation import Generation
from deepgen.serve.guard import App, Guard
from deepgen.serve.limits import ByteBudget, RateLimit
from deepgen.serve.metrics import Metrics
from deepgen.serve.requests import ImageRequest, Resolver
from deepgen.serve.schemas import (
    MAX_GUIDANCE,
    MAX_STEPS,
    EditParameters,
    ImageParameters,
    JsonEditParameters,
    parse_fields,
    text_values,
)

MAX_FIELD_BYTES = 64 << 10
MAX_FILES, MAX_FIELDS = 20, 40

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)

CONTENT_TYPES: Mapping[str, str] = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


class Server:
    """Answers requests; one engine, one model.

    Args:
        config: Settings.
        model: That is served.
        engine: Makes the images.
    """

    def __init__(self, config: ServeConfig, model: FoundModel, engine: EngineClient) -> None:
        self.config = config
        self.model = model
        self.engine = engine
        self.metrics = Metrics()
        self.resolver = Resolver(model, config)
        self.limit = RateLimit(config)
        self.budget = ByteBudget(config.max_open_bytes)
        self.started = int(time.time())
        self.is_draining = False
        self.running: dict[str, Generation] = {}
        self.signer = None if config.sign is None else Signer(config.sign)
        self._examples = examples(model.path)
        self._page = _page_files() if config.page else {}

    def application(self, *, starts_ready: bool = False) -> App:
        """The ASGI application.

        Args:
            starts_ready: Whether it counts as started only once images can be made, for what hands
                requests to several of them.
        """

        @asynccontextmanager
        async def lifespan(_: FastAPI) -> AsyncIterator[None]:
            self.engine.start()
            if starts_ready:
                await self.engine.until_ready()
            yield
            await self.engine.close()

        # Its pages of documentation load scripts from elsewhere.
        app = FastAPI(title="deepgen", docs_url=None, redoc_url=None, lifespan=lifespan)
        app.add_exception_handler(ApiError, _on_api_error)
        app.add_exception_handler(HTTPException, _on_http_error)
        app.add_exception_handler(ClientDisconnect, _on_disconnect)
        app.add_exception_handler(Exception, _on_other_error)
        routes: list[tuple[str, str, Callable[..., Awaitable[Response]]]] = [
            ("POST", "/v1/images/generations", self.generations),
            ("POST", "/v1/images/edits", self.edits),
            ("POST", "/v1/images/inspect", self.inspect),
            ("GET", "/v1/models", self.models),
            ("GET", "/v1/models/{name:path}", self.one_model),
            ("DELETE", "/v1/requests/{name}", self.cancel),
            ("GET", "/v1/capabilities", self.capabilities),
            ("GET", "/healthz", self.health),
            ("GET", "/readyz", self.readiness),
            ("GET", "/metrics", self.prometheus),
        ]
        if self._page:
            routes += [("GET", "/", self.page), ("GET", "/assets/{name}", self.asset)]
        for method, path, handler in routes:
            app.add_api_route(path, handler, methods=[method], response_model=None)

        def count(path: str, status: int) -> None:
            self.metrics.requests.labels(path, str(status)).inc()

        return Guard(app, self.config, self.budget, count)

    # -- images ------------------------------------------------------------------------------------

    async def generations(self, request: Request) -> Response:
        """Images from a prompt."""
        self._check_open()
        values = await _json_object(request)
        fields, ignored = self._fields(ImageParameters, values)
        return await self._respond(request, await self._resolved(fields, ignored, (), None))

    async def edits(self, request: Request) -> Response:
        """Images from an instruction and images."""
        self._check_open()
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "multipart/form-data":
            resolved = await self._multipart_edit(request)
        elif kind == "application/json":
            resolved = await self._json_edit(request)
        else:
            message = "an edit is multipart/form-data or application/json"
            raise ApiError("unsupported_media_type", message)
        return await self._respond(request, resolved)

    async def _multipart_edit(self, request: Request) -> ImageRequest:
        texts: list[tuple[str, str]] = []
        sent: dict[str, list[bytes]] = {}
        async with request.form(
            max_files=MAX_FILES, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES
        ) as form:
            for name, value in form.multi_items():
                if isinstance(value, str):
                    texts.append((name, value))
                else:
                    sent.setdefault(name, []).append(await value.read(uploads.MAX_BYTES + 1))
        for name in (each[:100] for each in sent):
            if name not in ("image", "image[]", "mask"):
                raise ApiError("unknown_parameter", f"there is no file {name!r}", param=name)
        if "image" in sent and "image[]" in sent:
            raise ApiError("invalid_value", "give either image or image[], not both", param="image")
        masks = sent.get("mask", [])
        if len(masks) > 1:
            raise ApiError("invalid_value", "there can be only one mask", param="mask")
        fields, ignored = self._fields(EditParameters, text_values(texts))
        name = "image[]" if "image[]" in sent else "image"
        images = [(name, each) for each in sent.get(name, [])]
        return await self._edit(request, fields, ignored, images, masks[0] if masks else None)

    async def _json_edit(self, request: Request) -> ImageRequest:
        fields, ignored = self._fields(JsonEditParameters, await _json_object(request))
        images = [
            (name, uploads.from_data_url(each.image_url, each.file_id, name=name))
            for name, each in ((f"images.{i}", each) for i, each in enumerate(fields.images))
        ]
        mask = None
        if fields.mask is not None:
            mask = uploads.from_data_url(fields.mask.image_url, fields.mask.file_id, name="mask")
        return await self._edit(request, fields, ignored, images, mask)

    def _fields(
        self, kind: type[ImageParameters], values: Mapping[str, Any]
    ) -> tuple[Any, list[str]]:
        ignores = self.config.unknown_fields == "ignore"
        return parse_fields(kind, values, ignore_unknown=ignores)

    async def _edit(
        self,
        request: Request,
        fields: Any,
        ignored: list[str],
        sent: list[tuple[str, bytes]],
        sent_mask: bytes | None,
    ) -> ImageRequest:
        uploads.check_count(sent, self.config.max_references)
        # Before anything is decoded.
        self._check_room(1)
        needed = sum(uploads.decoded_bytes(data, name) for name, data in sent)
        self.budget.reserve(request, uploads.COPIES * needed)
        images = [await in_thread(uploads.read_upload, data, name) for name, data in sent]
        mask = None
        if sent_mask is not None:
            mask = await in_thread(uploads.read_mask, sent_mask, images[0])
        return await self._resolved(fields, ignored, images, mask)

    async def _resolved(
        self,
        fields: Any,
        ignored: Sequence[str],
        images: Sequence[Image.Image],
        mask: Image.Image | None,
    ) -> ImageRequest:
        # Counting the tokens of a long prompt takes a while.
        return await in_thread(self.resolver.resolve, fields, ignored, images, mask)

    async def _respond(self, request: Request, resolved: ImageRequest) -> Response:
        state = request.state
        self.engine.check_fits(resolved.rows, resolved.tokens)
        # From here to its entry in `running` nothing else runs, so that no place is given twice.
        self._check_room(resolved.count)
        self.limit.take(state.client, resolved.count)
        generation = Generation(
            request=resolved,
            identifier=state.request_id,
            client=state.client,
            engine=self.engine,
            metrics=self.metrics,
            model=self.config.model,
            seconds=self.config.deadline,
            signer=self.signer,
        )
        state.log = {
            "images": resolved.count,
            "steps": resolved.steps,
            **({"prompt": resolved.prompt} if self.config.log_prompts else {}),
        }
        headers = {}
        if resolved.ignored:
            headers["deepgen-ignored"] = ", ".join(sorted(resolved.ignored))
        if resolved.warnings:
            headers["deepgen-warning"] = "; ".join(resolved.warnings)
        self.running[state.request_id] = generation
        if resolved.stream:
            headers |= {"cache-control": "no-store", "x-accel-buffering": "no"}
            events = self._tracked(generation)
            return StreamingResponse(events, media_type="text/event-stream", headers=headers)
        try:
            return _json(await _unless_gone(request, generation), headers=headers)
        finally:
            self.running.pop(state.request_id, None)

    def _check_room(self, count: int) -> None:
        """Refuse so many images where there is no room for them beside all accepted ones."""
        accepted = [
            each.request.price for each in self.running.values() for _ in range(each.announced)
        ]
        self.engine.check_room(count, self.config.deadline, accepted)

    async def _tracked(self, generation: Generation) -> AsyncIterator[str]:
        events = generation.events()
        try:
            async for text in events:
                yield text
        finally:
            await events.aclose()  # type: ignore[attr-defined]
            self.running.pop(generation.identifier, None)

    def _check_open(self) -> None:
        if self.is_draining:
            raise ApiError("draining", "the server is being stopped", retry_after=10)

    # -- about the server --------------------------------------------------------------------------

    async def models(self) -> Response:
        """The list of models, which has one."""
        return _json({"object": "list", "data": [self._model(self.config.model)]})

    async def one_model(self, name: str) -> Response:
        """The model, by its name or an alias."""
        self.resolver.check_model(name)
        return _json(self._model(name))

    def _model(self, name: str) -> dict[str, Any]:
        created = {"created": self.started, "owned_by": "deepgen"}
        return {"id": name, "object": "model", **created}

    async def cancel(self, request: Request, name: str) -> Response:
        """End a request of the same client."""
        generation = self.running.get(name)
        if generation is None or generation.client != request.state.client:
            raise ApiError("request_not_found", "there is no such request, or it has ended")
        generation.cancel()
        return _json({"id": name, "cancelled": True})

    async def capabilities(self) -> Response:
        """What the page, and other clients, need to know of the model and the limits."""
        from deepgen import __version__

        defaults, config = self.model.defaults, self.config
        ready = self.engine.ready
        return _json(
            {
                "model": config.model,
                "version": __version__,
                "ready": ready is not None,
                "device": None if ready is None else ready["device"],
                "width": defaults.width,
                "height": defaults.height,
                "steps": defaults.num_inference_steps,
                "guidance": defaults.guidance_scale,
                "edit_negative_prompt": defaults.edit_negative_prompt,
                "trained_size_ratio": defaults.trained_size_ratio,
                "size_step": SIZE_UNIT,
                "min_side": SMALLEST_SIDE,
                "max_side": self.model.max_side,
                "max_pixels": self.resolver.max_pixels,
                "max_steps": MAX_STEPS,
                "max_guidance": MAX_GUIDANCE,
                "max_n": config.max_n,
                "max_references": config.max_references,
                "max_upload_bytes": uploads.MAX_BYTES,
                "max_upload_pixels": uploads.MAX_PIXELS,
                "mask": "blend",
                "formats": ["png", "jpeg", "webp"],
                "metadata": config.metadata,
                "signed": self.signer is not None,
                "needs_key": bool(config.keys),
                "examples": self._examples,
            }
        )

    async def inspect(self, request: Request) -> Response:
        """What an image's file says of how it was made; nothing is kept."""
        async with request.form(max_files=1, max_fields=1) as form:
            sent = form.get("image")
            if sent is None or isinstance(sent, str):
                message = "image is missing; send the file as image"
                raise ApiError("missing_required_parameter", message, param="image")
            data = await sent.read(uploads.MAX_BYTES + 1)
        uploads.decoded_bytes(data, "image")
        image = await in_thread(uploads.read_upload, data, "image")
        found = await in_thread(statement, data)
        # Upright.
        return _json({**found, "width": image.width, "height": image.height})

    async def health(self) -> Response:
        """That the server answers."""
        return _json({"status": "ok"})

    async def readiness(self) -> Response:
        """Whether images can be made."""
        if self.is_draining:
            raise ApiError("draining", "the server is being stopped", retry_after=10)
        if self.engine.ready is None:
            reason = self.engine.failure or "the model is being loaded"
            raise ApiError("worker_unavailable", reason, retry_after=5)
        return _json({"status": "ready"})

    async def prometheus(self) -> Response:
        """Metrics in Prometheus' text format."""
        metrics, stats = self.metrics, self.engine.stats
        metrics.queue_images.set(self.engine.waiting)
        metrics.running_rows.set(stats.get("rows", 0))
        metrics.running_tokens.set(stats.get("tokens", 0))
        metrics.token_steps.set(stats.get("token_steps", 0))
        metrics.restarts.set(self.engine.restarts)
        while self.engine.ticks:
            metrics.tick_seconds.observe(self.engine.ticks.popleft())
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def page(self) -> Response:
        """The page."""
        return self._file("index.html")

    async def asset(self, name: str) -> Response:
        """A file of the page."""
        return self._file(name)

    def _file(self, name: str) -> Response:
        found = self._page.get(name)
        if found is None:
            raise ApiError("unknown_url", "there is no such page")
        content, kind = found
        headers = {"content-security-policy": PAGE_POLICY, "cache-control": "no-cache"}
        return Response(content, media_type=kind, headers=headers)


def _page_files() -> dict[str, tuple[bytes, str]]:
    """All files of the page with their types, read once; no path is ever made of a request."""
    found = {}
    for each in files("deepgen.serve").joinpath("page").iterdir():
        kind = CONTENT_TYPES.get(each.name[each.name.rfind(".") :])
        if kind is not None:
            found[each.name] = (each.read_bytes(), kind)
    return found


async def _unless_gone(request: Request, generation: Generation) -> dict[str, Any]:
    """The answer, unless the client goes first; then the engine is told at once."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    work, watch = asyncio.create_task(generation.answer()), asyncio.create_task(gone())
    try:
        await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            generation.metrics.cancelled.labels("disconnected").inc()
            raise ApiError("cancelled", "the client has gone")
        return work.result()
    finally:
        for task in (work, watch):
            task.cancel()
        await asyncio.gather(work, watch, return_exceptions=True)


async def _json_object(request: Request) -> dict[str, Any]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError("unsupported_media_type", "the request must be application/json")
    try:
        values = parse_json(await request.body())
    except ValueError as error:
        raise ApiError("invalid_value", f"the request is not valid JSON: {error}") from None
    if not isinstance(values, dict):
        raise ApiError("invalid_type", "the request must be a JSON object")
    return values


def _json(values: Any, *, headers: Mapping[str, str] | None = None, status: int = 200) -> Response:
    return Response(to_json(values), status, dict(headers or {}), media_type="application/json")


async def _on_api_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return _json(error.body, headers=error.headers, status=error.kind.status)


async def _on_http_error(request: Request, error: Exception) -> Response:
    """The framework's own errors, as those of the API."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        found = ApiError("method_not_allowed", f"{request.method[:10]} is not possible here")
    elif error.status_code == 404:
        found = ApiError("unknown_url", "there is nothing at this address")
    elif error.status_code == 413:
        found = ApiError("payload_too_large", "a field of the form is too large")
    else:
        found = ApiError("invalid_value", str(error.detail))
    return await _on_api_error(request, found)


async def _on_disconnect(request: Request, _: Exception) -> Response:
    """Its client left while it was sent; nobody reads this."""
    return await _on_api_error(request, ApiError("cancelled", "the client has gone"))


async def _on_other_error(request: Request, _: Exception) -> Response:
    """A fault of ours; the server's log has its traceback."""
    message = "the server made a mistake; its log says more"
    return await _on_api_error(request, ApiError("internal_error", message))
