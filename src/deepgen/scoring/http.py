"""JSON over HTTP with limits on time and size: what judges and workers are spoken to with.

The standard library's client, because no other one is there in every installation: versions of
huggingface_hub bring different ones.
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
from typing import Any, TypeVar

T = TypeVar("T")

# Busy servers and servers that restart; 408 and 425 ask for another try by their definition.
TEMPORARY = frozenset({408, 409, 425, 429})

LARGEST_REPLY = 64 * 1024 * 1024
"""Bytes. A detector's masks of a batch take a few; more is a broken or hostile server."""

GIVE_UP_AFTER = 20
"""Questions in a row without any reply, each with all its tries: the server is gone. With one try
and a quarter of all requests failing, chance alone does this once in a million million."""

LONGEST_WAIT_SECONDS = 60.0
"""Servers may ask for hours; a run that waits that long looks like one that hangs."""


class HttpError(Exception):
    """A request that brought no JSON object.

    Attributes:
        status: The HTTP status, or None when no whole answer came at all.
        body: What the server said, cut to what a person would read.
        retry_after_seconds: How long the server asks to wait, if it does.
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


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Following one would turn a POST into a GET and carry the key to another host."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


class Patience:
    """Counts what fails in a row, from any thread, until the server must be taken for gone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures = 0

    def succeeded(self) -> None:
        """There was an answer."""
        with self._lock:
            self._failures = 0

    def failed(self) -> bool:
        """There was none, after all tries; True if that was once too often."""
        with self._lock:
            self._failures += 1
            return self._failures >= GIVE_UP_AFTER


def checked_url(url: str) -> str:
    """An address without its trailing slash.

    Raises:
        ValueError: It is no http(s) address, or it carries a user name or password.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is no address; expected something like http://localhost:8000/v1")
    if parts.username or parts.password:
        raise ValueError(
            f"the address at {parts.hostname} carries a user name or password; secrets come from "
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
        timeout_seconds: For each wait on the server, and for the answer as a whole. A server that
            stops in the middle is given up after at most twice as long.
        bearer: Secret of the ``Authorization`` header; it is cut out of everything that the
            server says.

    Raises:
        HttpError: Anything else came back, or nothing did.
    """
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    if bearer:
        headers["Authorization"] = f"Bearer {bearer}"
    request = urllib.request.Request(url, data=data, headers=headers)
    try:
        with _OPENER.open(request, timeout=timeout_seconds) as response:
            text = _read(response, time.monotonic() + timeout_seconds)
    except urllib.error.HTTPError as error:
        raise _refused(error, bearer, timeout_seconds) from None
    except (OSError, http.client.HTTPException) as error:
        raise _unanswered(error) from None
    text = _without(bearer, text)
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        raise HttpError("the answer is no JSON", body=_shown(text)) from None
    if not isinstance(answer, dict):
        raise HttpError("the answer is no JSON object", body=_shown(text))
    return answer


def said(failure: HttpError) -> str:
    """A failure in words, with the beginning of what the server told."""
    return f"{failure}: {failure.body[:200]}" if failure.body else str(failure)


def with_retries(call: Callable[[], T], *, attempts: int, backoff_seconds: float) -> T:
    """Call until it succeeds, fails for good, or has failed ``attempts`` times.

    Waits ``backoff * 2^i``, give or take a half, so that callers that failed together do not come
    back together; at least as long as the server asks for.

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
            asked = failure.retry_after_seconds or 0.0
            time.sleep(min(max(wait, asked), LONGEST_WAIT_SECONDS))
    raise ValueError(f"attempts must be at least 1, got {attempts}")


def _read(response: http.client.HTTPResponse, deadline: float) -> bytes:
    parts, size = [], 0
    while part := response.read1(1 << 16):
        parts.append(part)
        size += len(part)
        if size > LARGEST_REPLY:
            raise OSError(f"the answer is larger than {LARGEST_REPLY:,} bytes")
        if time.monotonic() > deadline:
            raise TimeoutError
    # read1 takes a connection that breaks off for the end.
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)
    return b"".join(parts)


def _refused(error: urllib.error.HTTPError, secret: str, timeout_seconds: float) -> HttpError:
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
        # The header may also be a date; those are long waits, which are not kept anyway.
        retry_after_seconds=float(wait) if wait.isdecimal() else None,
    )


def _unanswered(error: Exception) -> HttpError:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return HttpError("no answer in time")
    return HttpError(" ".join(str(cause).split()) or type(cause).__name__)


def _without(secret: str, body: bytes) -> bytes:
    return body.replace(secret.encode(), b"***") if secret else body


def _shown(body: bytes) -> str:
    return " ".join(body.decode("utf-8", errors="replace").split())[:2000]
