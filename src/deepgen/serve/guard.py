"""What every request passes before its body is read: host, origin, key, size; and its log line.

Web pages of other servers can send requests to a server on this machine, and multipart forms need
no consent of the browser's, so CORS alone protects nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import ipaddress
import logging
import re
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from types import SimpleNamespace
from typing import Any, NoReturn
from urllib.parse import urlsplit

from deepgen.config.serve import ServeConfig
from deepgen.serve.errors import ApiError, send_error
from deepgen.serve.limits import ByteBudget

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

logger = logging.getLogger(__name__)
requests_log = logging.getLogger("deepgen.serve.requests")

PROBES = ("/healthz", "/readyz")

OPEN_PATHS = ("/", *PROBES)
"""That need no key, besides what the page consists of."""

FAILED_KEYS = 10
"""Wrong keys of an address in a minute, before it has to wait."""

MAX_ADDRESSES = 10_000
"""Whose wrong keys are counted at a time; the one that failed longest ago is forgotten first."""

# The scheme is matched without regard to case (RFC 9110, section 11.1).
_BEARER = re.compile(r"^bearer\s+", re.IGNORECASE)

MAX_HEADER_BYTES = 16 << 10
"""Of a request line with all headers."""

HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


UNREAD = {"connection": "close"}
"""Of answers before the body was read, the rest of which is not."""


class Guard:
    """ASGI middleware around the whole application.

    Args:
        app: What is guarded.
        config: Keys, hosts, origins and limits.
        budget: Memory of all requests.
        count: Called with path and status of every request that has been answered.
    """

    def __init__(
        self,
        app: App,
        config: ServeConfig,
        budget: ByteBudget,
        count: Callable[[str, int], None],
    ) -> None:
        self.app = app
        self.config = config
        self.budget = budget
        self._count = count
        self._hosts = frozenset(each.lower() for each in config.allow_host)
        self._failures: dict[str, deque[float]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with an error."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.monotonic()
        scope.setdefault("state", {})
        identifier = scope["state"]["request_id"] = f"req_{secrets.token_hex(12)}"
        status = 0

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = {**HEADERS, **self._sharing(scope), "x-request-id": identifier}
                message["headers"] = [
                    *message.get("headers", []),
                    *((name.encode(), value.encode()) for name, value in own.items()),
                ]
            await send(message)

        body = _Body(receive, self.config.max_upload_bytes, self.budget)
        try:
            _check_size(scope)
            headers = _headers(scope)
            self._check_browser(scope, headers)
            if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
                await send_on({"type": "http.response.start", "status": 204, "headers": []})
                await send_on({"type": "http.response.body", "body": b""})
                return
            scope["state"]["client"] = self._client(scope, headers)
            body.declare(headers.get("content-length"))
            await self.app(scope, body, send_on)
        except ApiError as error:
            if status:
                raise
            await send_error(error, send_on, UNREAD)
        except Exception:
            logger.exception("request %s failed", identifier)
            if not status:
                message = "the server made a mistake; its log says more"
                await send_error(ApiError("internal_error", message), send_on, UNREAD)
        finally:
            body.close()
            self.budget.release(scope["state"].get("reserved", 0))
            self._log(scope, identifier, status, time.monotonic() - started)

    def _check_browser(self, scope: Scope, headers: Mapping[str, str]) -> None:
        """Refuse hosts that are not ours, and pages of other servers."""
        if scope["path"] in PROBES:
            return
        host = headers.get("host", "")
        name = _host_name(host)
        if name is None or not self._is_known(name):
            raise ApiError(
                "invalid_host",
                f"this server is not {host[:100]!r}; use its address or localhost, or start it "
                "with --allow-host",
            )
        origin = headers.get("origin")
        if origin is not None and origin not in self.config.allow_origin:
            try:
                parts = urlsplit(origin)
            except ValueError:
                raise _foreign() from None
            if parts.scheme not in ("http", "https") or parts.netloc.lower() != host.lower():
                raise _foreign()
        site = headers.get("sec-fetch-site")
        if site not in (None, "same-origin", "none") and origin not in self.config.allow_origin:
            is_page = scope["path"] == "/" and scope["method"] == "GET"
            if not (is_page and headers.get("sec-fetch-mode") == "navigate"):
                raise _foreign()

    def _sharing(self, scope: Scope) -> dict[str, str]:
        """What lets listed pages read answers; never with credentials of the browser's."""
        headers = _headers(scope)
        origin = headers.get("origin")
        if origin is None or origin not in self.config.allow_origin:
            return {}
        return {
            "access-control-allow-origin": origin,
            "access-control-allow-methods": "GET, POST, DELETE",
            # Clients of the API send several of their own.
            "access-control-allow-headers": headers.get(
                "access-control-request-headers", "authorization, content-type"
            ),
            "access-control-expose-headers": (
                "x-request-id, retry-after, deepgen-warning, deepgen-ignored"
            ),
            "cross-origin-resource-policy": "cross-origin",
            "vary": "origin",
        }

    def _is_known(self, name: str) -> bool:
        if name == "localhost" or name in self._hosts:
            return True
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True

    def _client(self, scope: Scope, headers: Mapping[str, str]) -> str:
        """Who asks: the name of the key, else the address.

        Raises:
            ApiError: A key is needed, and this is none.
        """
        address = (scope.get("client") or ("unknown",))[0]
        path = scope["path"]
        if not self.config.keys or path in OPEN_PATHS or path.startswith("/assets/"):
            return f"address:{address}"
        given = _BEARER.sub("", headers.get("authorization", "")).strip().encode()
        found = None
        # All are compared, so that the time says nothing.
        for name, key in self.config.keys:
            if hmac.compare_digest(_digest(given), _digest(key.encode())):
                found = name
        if found is None:
            self._refuse_key(address)
        return f"key:{found}"

    def _refuse_key(self, address: str) -> NoReturn:
        """Count a wrong key; right ones are let in all the same, since proxies have one address.

        Raises:
            ApiError: Always.
        """
        now = time.monotonic()
        network = _network(address)
        # Taken out and put back, so that the order is that of the last failures.
        failures = self._failures[network] = self._failures.pop(network, deque())
        if len(self._failures) > MAX_ADDRESSES:
            del self._failures[next(iter(self._failures))]
        while failures and failures[0] < now - 60:
            failures.popleft()
        if len(failures) >= FAILED_KEYS:
            message = "too many wrong keys; wait a minute"
            raise ApiError("rate_limit_exceeded", message, retry_after=60)
        failures.append(now)
        message = "the API key is missing or wrong; send it as Authorization: Bearer KEY"
        raise ApiError("invalid_api_key", message)

    def _log(self, scope: Scope, identifier: str, status: int, seconds: float) -> None:
        route = scope.get("route")
        path = getattr(route, "path", "other")
        self._count(path, status)
        client = str(scope["state"].get("client", ""))
        line = {
            "id": identifier,
            "method": scope["method"][:10],
            "path": path,
            "status": status,
            "seconds": round(seconds, 3),
            "client": hashlib.sha256(client.encode()).hexdigest()[:12],
            **scope["state"].get("log", {}),
        }
        requests_log.info(line, extra={"event": "request"})


class _Body:
    """Counts a body while it is read.

    Args:
        receive: Of the server.
        limit: In bytes.
        budget: Of all requests.
    """

    def __init__(self, receive: Receive, limit: int, budget: ByteBudget) -> None:
        self._receive = receive
        self._limit = limit
        self._budget = budget
        self._count = 0
        self.state = SimpleNamespace(reserved=0)

    def declare(self, length: str | None) -> None:
        """Refuse a body that says that it is too large."""
        if length is None:
            return
        if not (length.isascii() and length.isdigit()) or len(length) > 12:
            raise ApiError("invalid_value", "the content-length is no number of bytes")
        self._check(int(length))
        self._budget.reserve(self, int(length))

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._count += len(message.get("body", b""))
            self._check(self._count)
            if self._count > self.state.reserved:
                self._budget.reserve(self, self._count - self.state.reserved)
        return message

    def close(self) -> None:
        self._budget.release(self.state.reserved)
        self.state.reserved = 0

    def _check(self, count: int) -> None:
        if count > self._limit:
            message = f"the request is larger than {self._limit >> 20} MiB"
            raise ApiError("payload_too_large", message)


def _network(address: str) -> str:
    """What one client has: an IPv4 address, or an IPv6 network of 64 bits."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(found), 64), strict=False))


def _digest(key: bytes) -> bytes:
    """Of one length for all keys."""
    return hashlib.sha256(key).digest()


def _check_size(scope: Scope) -> None:
    """Refuse headers above the limit, which arrived at once; those that drip are refused earlier.

    Raises:
        ApiError: They are.
    """
    size = sum(len(name) + len(value) + 4 for name, value in scope["headers"])
    size += len(scope.get("raw_path") or b"") + len(scope.get("query_string") or b"")
    if size > MAX_HEADER_BYTES:
        message = f"the headers have {size:,} bytes, {MAX_HEADER_BYTES:,} are the limit"
        raise ApiError("headers_too_large", message)


def _headers(scope: Scope) -> dict[str, str]:
    """Headers by lower-case name; of several the last."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _host_name(host: str) -> str | None:
    """The name or address of a Host header, without its port."""
    with contextlib.suppress(ValueError):
        parts = urlsplit(f"//{host}")
        if parts.username is None and parts.path == "" and not parts.query:
            return parts.hostname
    return None


def _foreign() -> ApiError:
    return ApiError(
        "forbidden_origin",
        "pages of other servers may not use this one; start it with --allow-origin for yours",
    )
