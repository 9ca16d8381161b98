"""HTTP connections that must not take forever: uvicorn's protocol with time limits for requests."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from deepgen.serve.errors import ApiError

HEADER_SECONDS = 10.0
"""For a request's headers, from the connection or their first byte."""

BODY_SECONDS = 60.0
"""For a request's body, from the end of its headers."""

READER_SECONDS = 60.0
"""For a reader that does not read what it asked for."""

MAX_CONNECTIONS = 256
MAX_PER_ADDRESS = 32
"""Not of this machine's own address, from which a reverse proxy sends everybody's requests."""

LOOPBACK: tuple[str, ...] = ("127.", "::1")


class TimedProtocol(H11Protocol):
    """Closes connections whose request does not arrive in time, and those that are too many.

    Once a request is complete there is no limit here, so that streams may last.
    """

    per_address: ClassVar[Counter[str]] = Counter()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection, and wait for headers."""
        super().connection_made(transport)
        self._timer: asyncio.TimerHandle | None = None
        self._reader_timer: asyncio.TimerHandle | None = None
        self._phase = ""
        self._address = self.client[0] if self.client else ""
        self.per_address[self._address] += 1
        is_over = self.per_address[self._address] > MAX_PER_ADDRESS
        is_over = is_over and not self._address.startswith(LOOPBACK)
        if is_over or len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
            return
        self._wait("headers", HEADER_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop()
        self._stop_reader_timer()
        self.per_address[self._address] -= 1
        if self.per_address[self._address] <= 0:
            del self.per_address[self._address]
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Handle data, and see what is still to come."""
        super().data_received(data)
        self._arm()

    def on_response_complete(self) -> Any:
        """Begin the next request of the connection, part of which may be here already."""
        self._stop()
        result = super().on_response_complete()
        self._arm()
        return result

    def pause_writing(self) -> None:
        """Close the connection of a reader that has stopped reading, after a while."""
        super().pause_writing()
        self._reader_timer = self.loop.call_later(READER_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """The reader reads again."""
        super().resume_writing()
        self._stop_reader_timer()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP with the error object."""
        error = ApiError("invalid_value", msg)
        content = json.dumps(error.body).encode()
        headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
        for event in (
            h11.Response(status_code=error.kind.status, headers=headers, reason=b"Bad Request"),
            h11.Data(data=content),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _arm(self) -> None:
        """Limit the time for what is still to come of a request."""
        state = self.conn.their_state
        if state is h11.SEND_BODY:
            self._wait("body", BODY_SECONDS)
        elif state is h11.IDLE:
            self._wait("headers", HEADER_SECONDS)
        else:
            self._stop()

    def _wait(self, phase: str, seconds: float) -> None:
        """Close the connection unless the phase ends in time; a phase has one limit only."""
        if self._phase == phase:
            return
        self._stop()
        self._phase = phase
        self._timer = self.loop.call_later(seconds, self._expire)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._phase = None, ""

    def _stop_reader_timer(self) -> None:
        if self._reader_timer is not None:
            self._reader_timer.cancel()
        self._reader_timer = None

    def _expire(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.close()
