"""Errors of the server, as the OpenAI API writes them.

Clients of that API repeat 408, 409, 429 and every 5xx by themselves; ``x-should-retry`` tells them
otherwise where repeating would only make the server draw again for nobody.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deepgen.errors import shortened

LONGEST = 500
"""Characters of a message."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What all errors of a code have in common."""

    status: int
    type: str = "invalid_request_error"
    should_retry: bool | None = None


KINDS: Mapping[str, Kind] = {
    "missing_required_parameter": Kind(400),
    "invalid_type": Kind(400),
    "invalid_value": Kind(400),
    "unknown_parameter": Kind(400),
    "unsupported_parameter": Kind(400),
    "unsupported_value": Kind(400),
    "string_above_max_length": Kind(400),
    "invalid_host": Kind(400),
    "invalid_image": Kind(400),
    "unsupported_image_format": Kind(400),
    "request_too_large_for_model": Kind(400),
    "invalid_api_key": Kind(401),
    "forbidden_origin": Kind(403),
    "model_not_found": Kind(404),
    "unknown_url": Kind(404),
    "request_not_found": Kind(404),
    "method_not_allowed": Kind(405),
    "payload_too_large": Kind(413),
    "image_too_large": Kind(413),
    "unsupported_media_type": Kind(415),
    "headers_too_large": Kind(431),
    "queue_full": Kind(429, "rate_limit_error", should_retry=True),
    "rate_limit_exceeded": Kind(429, "rate_limit_error", should_retry=True),
    "cancelled": Kind(499, should_retry=False),
    "non_finite": Kind(500, "server_error", should_retry=False),
    "internal_error": Kind(500, "server_error", should_retry=False),
    "worker_unavailable": Kind(503, "server_error", should_retry=True),
    "draining": Kind(503, "server_error", should_retry=True),
    "out_of_memory": Kind(503, "server_error", should_retry=False),
    "deadline_exceeded": Kind(504, "server_error", should_retry=False),
}
"""Status, type and advice of every code."""


class ApiError(Exception):
    """A request that is not fulfilled.

    Args:
        code: One of ``KINDS``.
        message: What was found, what was expected.
        param: The field that it is about.
        retry_after: Seconds after which trying again makes sense.
    """

    def __init__(
        self, code: str, message: str, *, param: str | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.kind = KINDS[code]
        self.message = shortened(message, LONGEST)
        self.param = param
        self.retry_after = retry_after

    @property
    def body(self) -> dict[str, Any]:
        """The error object."""
        error = {"message": self.message, "type": self.kind.type}
        return {"error": {**error, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """What tells clients whether and when to try again."""
        headers = {}
        if self.kind.should_retry is not None:
            headers["x-should-retry"] = str(self.kind.should_retry).lower()
        if self.retry_after is not None:
            headers["retry-after"] = str(self.retry_after)
        return headers


async def send_error(error: ApiError, send: Any, headers: Mapping[str, str] | None = None) -> None:
    """Answer a request of which nothing has been answered yet.

    Args:
        error: The answer.
        send: Of the ASGI server.
        headers: Besides those of the error.
    """
    body = json.dumps(error.body).encode()
    every = {"content-type": "application/json", "content-length": str(len(body))}
    every |= {**error.headers, **(headers or {})}
    pairs = [(name.encode(), value.encode()) for name, value in every.items()]
    await send({"type": "http.response.start", "status": error.kind.status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})
