"""JSON over HTTP with limits on time and size, for judges and workers.

It uses the standard library's client: no other one is in every installation, since versions of
huggingface_hub depend on different ones.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from deepgen.config.checks import check_at_least, check_positive
from deepgen.exchange import open_url
from deepgen.reading import parse_json

T = TypeVar("T")

# Busy or restarting servers; 408 and 425 request another try by definition.
TEMPORARY = frozenset({408, 409, 425, 429})

LARGEST_REPLY = 64 * 1024 * 1024
"""Bytes. The masks of a batch take a few MB; more is a broken or hostile server."""

GIVE_UP_AFTER = 20
"""Consecutive requests without a reply, each after all its tries, until the server counts as down.
With a quarter of all requests failing at random, this happens once in 10^12."""

LONGEST_WAIT_SECONDS = 60.0
"""Limit on ``Retry-After``: servers may request hours, and a run must not appear to hang."""


class HttpError(Exception):
    """A request that did not return a JSON object.

    Attributes:
        status: The HTTP status, or None without a complete response.
        body: The beginning of the response.
        retry_after_seconds: The ``Retry-After`` of the server, if there is one.
    """

    def __init__(
        self,
        reason: str,
        *,
        status: int | None = None,
        body: str = "",
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.body = body
        self.retry_after_seconds = retry_after_seconds

    @property
    def temporary(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status is None or self.status in TEMPORARY or self.status >= 500


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerConfig:
    """Where a server is, and how requests are sent to it."""

    base_url: str
    """Up to and without the paths of requests, for example ``http://localhost:8000/v1``."""
    concurrency: int = 1
    """Requests in flight at any time, from all threads."""
    timeout_seconds: float = 60.0
    """For one request."""
    request_attempts: int = 3
    """Tries of one request while the connection or the server fails."""
    backoff_seconds: float = 1.0
    """Wait before the second try, doubled before each further one."""

    def __post_init__(self) -> None:
        checked_url(self.base_url)
        check_at_least("concurrency", self.concurrency, 1)
        check_at_least("request_attempts", self.request_attempts, 1)
        check_positive("timeout_seconds", self.timeout_seconds)


class CircuitBreaker:
    """Counts consecutive failures, from any thread, until the server counts as down."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures = 0

    def succeeded(self) -> None:
        """Record a response."""
        with self._lock:
            self._failures = 0

    def failed(self) -> bool:
        """Record a request that failed after all its tries; True if the server counts as down."""
        with self._lock:
            self._failures += 1
            return self._failures >= GIVE_UP_AFTER


def checked_url(url: str) -> str:
    """A URL without its trailing slash.

    Raises:
        ValueError: It is not an http(s) URL, or it contains a user name or password.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(
            f"{url!r} is not an address; expected something like http://localhost:8000/v1"
        )
    if parts.username or parts.password:
        raise ValueError(
            f"the address at {parts.hostname} contains a user name or password; secrets come from "
            "the environment"
        )
    return url.rstrip("/")


def request_json(
    url: str,
    body: Mapping[str, Any] | None = None,
    *,
    timeout_seconds: float,
    bearer: str = "",
) -> dict[str, Any]:
    """POST a JSON object, or GET without one, and return the JSON object that comes back.

    Args:
        timeout_seconds: For the whole exchange, from the connection to the last byte.
        bearer: Secret of the ``Authorization`` header; removed from everything that the server
            returns.

    Raises:
        HttpError: There was no response, or it is not a JSON object.
    """
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    if bearer:
        headers["Authorization"] = f"Bearer {bearer}"
    request = urllib.request.Request(url, data=data, headers=headers)
    try:
        with open_url(request, timeout_seconds, redirects=False) as response:
            text = _read(response)
    except urllib.error.HTTPError as error:
        raise _status_error(error, bearer) from None
    except (OSError, http.client.HTTPException) as error:
        raise _connection_error(error) from None
    text = _without(bearer, text)
    try:
        answer = parse_json(text)
    except ValueError:
        raise HttpError("the answer is not JSON", body=_shown(text)) from None
    if not isinstance(answer, dict):
        raise HttpError("the answer is not a JSON object", body=_shown(text))
    return answer


def describe(failure: HttpError) -> str:
    """A failure in one line, with the beginning of the response."""
    return f"{failure}: {failure.body[:200]}" if failure.body else str(failure)


def with_retries(call: Callable[[], T], *, attempts: int, backoff_seconds: float) -> T:
    """Call until it succeeds, fails permanently, or has failed ``attempts`` times.

    Waits ``backoff * 2^i`` with 50 % jitter, so that callers that failed together do not retry
    together, and at least the ``Retry-After`` of the server.

    Raises:
        HttpError: The last one.
    """
    for attempt in range(attempts):
        try:
            return call()
        except HttpError as failure:
            if not failure.temporary or attempt + 1 == attempts:
                raise
            wait = backoff_seconds * 2**attempt * random.uniform(0.5, 1.5)
            requested = failure.retry_after_seconds or 0.0
            time.sleep(min(max(wait, requested), LONGEST_WAIT_SECONDS))
    raise ValueError(f"attempts must be at least 1, got {attempts}")


def _read(response: http.client.HTTPResponse) -> bytes:
    parts, size = [], 0
    while part := response.read1(1 << 16):
        parts.append(part)
        size += len(part)
        if size > LARGEST_REPLY:
            raise OSError(f"the answer is larger than {LARGEST_REPLY:,} bytes")
    # read1 does not tell a lost connection from the end.
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)
    return b"".join(parts)


def _status_error(error: urllib.error.HTTPError, secret: str) -> HttpError:
    with error:
        try:
            body = error.read(1 << 16)
        except (OSError, http.client.HTTPException):
            body = b""
    wait = error.headers.get("Retry-After", "") if error.headers else ""
    return HttpError(
        f"HTTP {error.code}",
        status=error.code,
        body=_shown(_without(secret, body)),
        # The header may also be a date, which means a wait beyond the limit.
        retry_after_seconds=float(wait) if wait.isdecimal() else None,
    )


def _connection_error(error: Exception) -> HttpError:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return HttpError("no answer in time")
    return HttpError(" ".join(str(cause).split()) or type(cause).__name__)


def _without(secret: str, body: bytes) -> bytes:
    return body.replace(secret.encode(), b"***") if secret else body


def _shown(body: bytes) -> str:
    return " ".join(body.decode("utf-8", errors="replace").split())[:2000]
