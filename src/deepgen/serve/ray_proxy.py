"""What Ray's proxies do around themselves. Little is imported: a proxy has seconds to start."""

from __future__ import annotations

from typing import Any

from starlette.middleware import Middleware

from deepgen.serve.errors import ApiError, send_error


class GoneReplicas:
    """Answers 503 where Ray's proxy has no answer, since the replica was killed meanwhile.

    By itself it answers 500 in plain text. Clients repeat a 503, and get another replica.

    Args:
        app: Ray's proxy.
    """

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Handle one request."""
        state = {"began": False, "replaced": False}

        async def watch(message: Any) -> None:
            if message["type"] == "http.response.start":
                state["began"] = True
                names = {name.lower() for name, _ in message["headers"]}
                # Every answer of a replica has an id; the proxy's own are plain text.
                if message["status"] in (408, 500, 503) and b"x-request-id" not in names:
                    state["replaced"] = True
            if not state["replaced"]:
                await send(message)

        is_request = scope["type"] == "http" and not scope["path"].startswith("/-/")
        await self.app(scope, receive, watch if is_request else send)
        if is_request and (state["replaced"] or not state["began"]):
            message = "the engine was stopped; try again"
            error = ApiError("worker_unavailable", message, retry_after=1)
            await send_error(error, send)


def proxy_middlewares() -> list[Middleware]:
    """What Ray's proxies, which call this, do around themselves."""
    return [Middleware(GoneReplicas)]
