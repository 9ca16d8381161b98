"""HTTP exchanges with one deadline, from the connection to the last byte.

The timeout of the standard library's client is for each wait on the socket, so a server that sends
a byte now and then, in its headers or in the text of an error, holds it for ever. Here every wait
gets the time that is left. Only the system's own lookup of a host's name has limits of its own.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
import urllib.request
from functools import partial
from http.client import HTTPResponse
from typing import Any


def open_url(request: urllib.request.Request, seconds: float, *, redirects: bool) -> HTTPResponse:
    """Send a request and return the response, whose body is to be read within the same deadline.

    Args:
        request: With http or https.
        seconds: For the whole exchange, redirections included.
        redirects: Whether they are followed.

    Raises:
        TimeoutError: The deadline has passed; or in urllib's ``URLError``, as its ``reason``.
        OSError: The connection failed.
        HTTPException: The response breaks the protocol.
        HTTPError: The server refused; its body may be read within the same deadline.
    """
    end = time.monotonic() + seconds
    handlers = [_HttpHandler(end), _HttpsHandler(end), *([] if redirects else [_NoRedirect()])]
    response: HTTPResponse = urllib.request.build_opener(*handlers).open(request, timeout=seconds)
    return response


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Following one would turn a POST into a GET and carry the key to another host."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


class _HttpHandler(urllib.request.HTTPHandler):
    def __init__(self, end: float) -> None:
        super().__init__()
        self._end = end

    def http_open(self, request: urllib.request.Request) -> HTTPResponse:
        return self.do_open(partial(_Connection, end=self._end), request)


class _HttpsHandler(urllib.request.HTTPSHandler):
    def __init__(self, end: float) -> None:
        super().__init__()
        self._end = end

    def https_open(self, request: urllib.request.Request) -> HTTPResponse:
        return self.do_open(partial(_TlsConnection, end=self._end), request)


class _Timed:
    """A connection whose every wait ends at the same time."""

    sock: Any
    response_class: Any

    def __init__(self, *args: Any, end: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._end = end
        self._create_connection = partial(_connected, end)
        self.response_class = partial(_Response, end=end)

    def send(self, data: Any) -> None:
        if self.sock is not None:
            # Of all the data together.
            self.sock.settimeout(_left(self._end))
        super().send(data)  # type: ignore[misc]


class _Connection(_Timed, http.client.HTTPConnection):
    pass


class _TlsConnection(_Timed, http.client.HTTPSConnection):
    pass


class _Response(HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, end: float, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        # Until the body begins, and for it as well.
        self.fp = io.BufferedReader(_TimedReader(sock, self.fp.detach(), end))


class _TimedReader(io.RawIOBase):
    """What a socket receives, until a deadline."""

    def __init__(self, sock: socket.socket, raw: Any, end: float) -> None:
        self._sock, self._raw, self._end = sock, raw, end

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(_left(self._end))
        count: int | None = self._raw.readinto(buffer)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


def _connected(end: float, address: tuple[str, int], *_: Any) -> socket.socket:
    """A socket that is connected with the first of a host's addresses that answers in time."""
    host, port = address
    failure: OSError | None = None
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for number, (family, kind, protocol, _name, place) in enumerate(found):
        sock = socket.socket(family, kind, protocol)
        try:
            # An address that does not answer leaves time for the others.
            sock.settimeout(_left(end) / (len(found) - number))
            sock.connect(place)
        except OSError as error:
            sock.close()
            failure = error
        else:
            return sock
    raise failure or OSError(f"{host} has no address")


def _left(end: float) -> float:
    """Seconds until a deadline.

    Raises:
        TimeoutError: It has passed.
    """
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError("no answer in time")
    return left
