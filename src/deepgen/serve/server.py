"""Running the server until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from deepgen.checkpoint.finding import FoundModel
from deepgen.config.serve import ServeConfig
from deepgen.errors import DeepGenError
from deepgen.serve.app import Server
from deepgen.serve.engine_client import EngineClient
from deepgen.serve.guard import MAX_HEADER_BYTES
from deepgen.serve.protocol import TimedProtocol

logger = logging.getLogger(__name__)

HTTP_SETTINGS: Mapping[str, Any] = {
    "http": TimedProtocol,
    "ws": "none",
    "log_config": None,
    "access_log": False,
    "server_header": False,
    "proxy_headers": False,
    "h11_max_incomplete_event_size": MAX_HEADER_BYTES,
    "timeout_graceful_shutdown": 1,
}
"""Of uvicorn."""


class _Uvicorn(uvicorn.Server):
    """Lets running requests end before it stops; a second signal stops it at once."""

    def __init__(self, config: uvicorn.Config, server: Server, grace: float) -> None:
        super().__init__(config)
        self._server = server
        self._grace = grace
        self._drain: asyncio.Task[None] | None = None
        self.was_interrupted = False
        """Whether it was Ctrl-C that ended it."""

    def stop(self) -> None:
        """End at once."""
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Refuse new requests, and stop once the running ones have ended."""
        self.was_interrupted = sig == signal.SIGINT
        if self._server.is_draining:
            self.force_exit = self.should_exit = True
            return
        self._server.is_draining = True
        asyncio.get_event_loop().call_soon_threadsafe(self._begin_drain)

    def _begin_drain(self) -> None:
        self._drain = asyncio.get_running_loop().create_task(self._wait_for_requests())

    async def _wait_for_requests(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._grace):
                while self._server.running:
                    await asyncio.sleep(0.05)
        self.should_exit = True


def engine_settings(config: ServeConfig, path: Path) -> dict[str, Any]:
    """What the engine's process is started with."""
    return {
        "path": str(path),
        "source": config.model,
        "device": config.device,
        "dtype": config.dtype,
        "padding": config.padding,
        "rope_precision": config.rope_precision,
        "memory": config.memory,
        "quantize": config.quantize,
        "compile": config.compile,
        "adapters": [list(each) for each in config.adapters],
        "max_batch_rows": config.max_batch_rows,
        "max_batch_tokens": config.max_batch_tokens,
        "deterministic": config.deterministic,
    }


def serve(config: ServeConfig, model: FoundModel, on_start: Callable[[str], None]) -> None:
    """Serve a model until a signal.

    Args:
        config: Settings.
        model: To serve.
        on_start: Called with the address, once requests are accepted.

    Raises:
        DeepGenError: The address cannot be used, or the model cannot generate.
        KeyboardInterrupt: It was Ctrl-C that ended it; running requests have been answered.
    """
    engine = EngineClient(engine_settings(config, model.path), max_queue=config.max_queue)
    server = Server(config, model, engine)
    listener = _listen(config)
    address = address_of(config.host, listener.getsockname()[1])
    on_start(address)

    def announce(ready: Mapping[str, Any]) -> None:
        line = {
            "message": f"{config.model} is ready; open {address} in a browser, Ctrl-C ends it",
            "address": address,
            "model": config.model,
            "device": ready["device"],
        }
        logger.info(line, extra={"event": "ready"})

    engine.on_ready = announce
    settings = uvicorn.Config(server.application(), **HTTP_SETTINGS)
    web = _Uvicorn(settings, server, config.grace)
    engine.on_failure = web.stop
    try:
        web.run(sockets=[listener])
    finally:
        listener.close()
    if engine.failure is not None:
        raise DeepGenError(engine.failure)
    if web.was_interrupted:
        raise KeyboardInterrupt


def address_of(host: str, port: int) -> str:
    """What to open in a browser; IPv6 addresses stand in brackets there."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _listen(config: ServeConfig) -> socket.socket:
    """A socket at the address of the settings.

    Raises:
        DeepGenError: It cannot be used.
    """
    host, port = config.host, config.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()
    except (OSError, UnicodeError) as error:
        listener.close()
        if isinstance(error, socket.gaierror | UnicodeError):
            reason = f"--host {host} is no address and no name that resolves to one"
        elif error.errno == errno.EADDRNOTAVAIL:
            reason = f"this machine has no address {host}"
        else:
            raise DeepGenError(
                f"cannot listen at {host}:{port}: {error.strerror}; choose another --port or --host"
            ) from None
        advice = "use 127.0.0.1 for this machine alone, or 0.0.0.0 for all its addresses"
        raise DeepGenError(f"{reason}; {advice}") from None
    return listener
