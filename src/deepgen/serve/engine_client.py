"""The server's side of the engine: starts it, talks to it, and starts it again when it died."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import math
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from deepgen.errors import DeepGenError
from deepgen.serve.errors import ApiError
from deepgen.serve.frames import Frame, FrameError, packed, read_frame_async

logger = logging.getLogger(__name__)

BACKOFF_SECONDS = (0, 1, 4, 16)
"""Before each start of a series; the last one is repeated."""

HANG_SECONDS = 60.0
HANG_TICKS = 20
"""An engine that reports no tick for so long, or for so many usual ticks, is killed."""

STEADY_SECONDS = 30.0
"""After so long without a crash the series of starts begins anew."""

WARM_UPS = 5
"""Or for so many times as long as its first image took."""

MOST_CRASHES = 2
"""A job that was there in so many crashes may be the reason, and is not tried again."""

GRACE_SECONDS = 5.0

POLL_SECONDS = 0.1

NEWEST_WINS = frozenset({"position", "step", "preview"})
"""Events of which a slow reader gets the newest only, so that none pile up."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """One image to make, as the engine's process gets it."""

    client: str
    values: Mapping[str, Any]
    """See :mod:`deepgen.serve.worker`."""
    blobs: Sequence[bytes] = ()
    price: float = 1.0
    """Tokens times steps, roughly, for estimates of waiting times."""


class _Mailbox:
    """Events for one reader, in order."""

    def __init__(self) -> None:
        self._frames: dict[object, Frame] = {}
        self._arrived = asyncio.Event()

    def put(self, frame: Frame) -> None:
        kind = frame.values["kind"]
        self._frames[kind if kind in NEWEST_WINS else object()] = frame
        self._arrived.set()

    async def get(self) -> Frame:
        while not self._frames:
            self._arrived.clear()
            await self._arrived.wait()
        return self._frames.pop(next(iter(self._frames)))


@dataclass(kw_only=True)
class _Task:
    id: str
    command: Command
    deadline: float
    events: _Mailbox = field(default_factory=_Mailbox)
    is_running: bool = False
    step: int = 0
    crashes: int = 0

    @property
    def left(self) -> float:
        """What it still costs."""
        steps = int(self.command.values["steps"])
        return self.command.price * (steps - self.step) / steps


def do_nothing() -> None:
    """Nobody waits for a failure."""


def ignore(_: object) -> None:
    """Nobody waits for an engine."""


class EngineClient:
    """The engine, to the handlers of requests.

    Args:
        settings: Of the engine's process.
        max_queue: Jobs that may wait, at most.
    """

    def __init__(self, settings: Mapping[str, Any], *, max_queue: int) -> None:
        self.settings = dict(settings)
        self.max_queue = max_queue
        self.ready: Mapping[str, Any] | None = None
        """What the engine said of itself; None while there is none that could draw."""
        self.stats: Mapping[str, Any] = {}
        """Of the last tick."""
        self.ticks: deque[float] = deque(maxlen=1000)
        """Seconds of the last ticks, which whoever reads them clears."""
        self.restarts = 0
        self.failure: str | None = None
        """Why there is no engine, if it could not be started."""
        self.on_failure: Callable[[], None] = do_nothing
        """Called then."""
        self.on_ready: Callable[[Mapping[str, Any]], None] = ignore
        """Called with what the engine said of itself, each time that it is ready."""
        self._tasks: dict[str, _Task] = {}
        self._numbers = itertools.count(1)
        self._process: asyncio.subprocess.Process | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._durations: deque[float] = deque(maxlen=64)
        self._last_sign = time.monotonic()

    # -- life --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the process, and keep one running."""
        self._supervisor = asyncio.create_task(self._supervise())

    async def until_ready(self) -> None:
        """Wait until images can be made.

        Raises:
            DeepGenError: They never will be.
        """
        while self.ready is None:
            if self.failure is not None:
                raise DeepGenError(self.failure)
            await asyncio.sleep(POLL_SECONDS)

    async def close(self) -> None:
        """End the process; jobs that are left get an error."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._supervisor
        await self._kill()
        for task in list(self._tasks.values()):
            self._end(task, "worker_unavailable", "the server is being stopped")

    async def _supervise(self) -> None:
        attempt, has_worked = 0, False
        while True:
            await asyncio.sleep(BACKOFF_SECONDS[min(attempt, len(BACKOFF_SECONDS) - 1)])
            started = time.monotonic()
            was_ready = False
            watch = None
            try:
                process = await self._spawn()
                watch = asyncio.create_task(self._watch(process))
                was_ready = await self._listen(process)
            except OSError:
                logger.exception("the engine's process cannot be started")
            finally:
                if watch is not None:
                    watch.cancel()
                await self._kill()
            self.ready = None
            attempt = 1 if time.monotonic() - started > STEADY_SECONDS else attempt + 1
            has_worked = has_worked or was_ready
            if not has_worked:
                self.failure = "the engine cannot be started; its error is above"
                self._fail_all(self.failure)
                self.on_failure()
                return
            logger.error("the engine ended unexpectedly; starting it again")
            self.restarts += 1
            self._after_crash()

    async def _spawn(self) -> asyncio.subprocess.Process:
        arguments = ["-m", "deepgen.serve.worker", json.dumps(self.settings)]
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        self._last_sign = time.monotonic()
        return self._process

    async def _listen(self, process: asyncio.subprocess.Process) -> bool:
        """Handle the process's frames until it ends; whether it was ready once."""
        assert process.stdout is not None
        was_ready = False
        while True:
            try:
                frame = await read_frame_async(process.stdout)
            except (asyncio.IncompleteReadError, FrameError, ValueError):
                return was_ready
            self._last_sign = time.monotonic()
            operation = frame.values["op"]
            if operation == "ready":
                was_ready, self.ready, self.failure = True, frame.values, None
                self.on_ready(frame.values)
                for task in self._tasks.values():
                    self._submit(task)
            elif operation == "tick":
                self.stats = frame.values
                self._durations.append(frame.values["seconds"])
                self.ticks.append(frame.values["seconds"])
                self._tell_positions(frame.values["positions"])
            else:
                self._deliver(frame)

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        """Kill a process that hangs: jobs run, but no tick comes."""
        while True:
            await asyncio.sleep(1)
            usual = median(self._durations) if self._durations else 0.0
            warm_up = 0.0 if self.ready is None else self.ready["seconds"]
            limit = max(HANG_SECONDS, HANG_TICKS * usual, WARM_UPS * warm_up)
            is_working = self.ready is not None and bool(self._tasks)
            if not is_working:
                self._last_sign = time.monotonic()
            elif time.monotonic() - self._last_sign > limit:
                logger.error("the engine made no step for %.0f s and is killed", limit)
                process.kill()
                return

    async def _kill(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await process.wait()

    # -- jobs --------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Jobs that have not begun."""
        return sum(not task.is_running for task in self._tasks.values())

    def check_fits(self, rows: int, tokens: int) -> None:
        """Refuse an image that could never be made.

        Raises:
            ApiError: It needs more than the engine has.
        """
        ready = self.ready
        if ready is not None and (rows > ready["rows"] or tokens > ready["tokens"]):
            message = (
                f"the image needs {rows} rows with {tokens:,} tokens, but there is room for "
                f"{ready['rows']} with {ready['tokens']:,}; use a smaller size or fewer reference "
                "images"
            )
            raise ApiError("request_too_large_for_model", message)

    def estimated_seconds(self, accepted: Sequence[float] = ()) -> float:
        """How long the work that is there will take, by what tokens took lately.

        Args:
            accepted: Prices of images that are to come all the same, see :meth:`check_room`.
        """
        per_token = float(self.stats.get("seconds_per_token", 0.0))
        if not per_token and self.ready is not None:
            per_token = float(self.ready["seconds_per_token"])
        return per_token * (sum(task.left for task in self._tasks.values()) + sum(accepted))

    def check_room(self, count: int, seconds: float, accepted: Sequence[float] = ()) -> None:
        """Refuse jobs for which there is no room.

        Args:
            count: Of jobs.
            seconds: Until their deadline.
            accepted: Prices of the images of other requests for which there was room, and which
                have not been asked for by :meth:`run` yet.

        Raises:
            ApiError: The queue is full, it would take too long, or there is no engine.
        """
        if self.ready is None:
            reason = self.failure or "the model is being loaded"
            raise ApiError("worker_unavailable", f"{reason}; try again later", retry_after=5)
        expected = self.estimated_seconds(accepted)
        waiting = self.waiting + len(accepted)
        if waiting + count > self.max_queue or expected > seconds:
            after = min(120, max(1, math.ceil(expected / 2)))
            raise ApiError(
                "queue_full",
                f"images waiting: {waiting}, for about {math.ceil(expected)} s; try again later",
                retry_after=after,
            )

    async def run(self, command: Command, *, seconds: float) -> AsyncIterator[Frame]:
        """Have an image made.

        Leaving the iterator cancels the job at once, wherever it is.

        Args:
            command: What to make.
            seconds: Until it is given up.

        Yields:
            Frames of events, the last of which is ``finished``.

        Raises:
            ApiError: It failed.
        """
        identifier = f"job_{next(self._numbers)}"
        task = _Task(id=identifier, command=command, deadline=time.monotonic() + seconds)
        self._tasks[identifier] = task
        if self.ready is not None:
            self._submit(task)
        try:
            while True:
                # The engine gives it up first, unless it hangs.
                left = task.deadline + GRACE_SECONDS - time.monotonic()
                frame = await asyncio.wait_for(task.events.get(), left)
                if frame.values["kind"] == "failed":
                    raise ApiError(frame.values["code"], frame.values["message"])
                yield frame
                if frame.values["kind"] == "finished":
                    return
        except TimeoutError:
            message = "the image was not done within the time limit"
            raise ApiError("deadline_exceeded", message) from None
        finally:
            if self._tasks.pop(identifier, None) is not None:
                self._send(Frame({"op": "cancel", "id": identifier}))

    def _submit(self, task: _Task) -> None:
        command = task.command
        values = {"op": "submit", "id": task.id, "client": command.client, **command.values}
        values["seconds"] = task.deadline - time.monotonic()
        self._send(Frame(values, command.blobs))

    def _send(self, frame: Frame) -> None:
        process = self._process
        if process is not None and process.stdin is not None and not process.stdin.is_closing():
            process.stdin.write(packed(frame))

    def _deliver(self, frame: Frame) -> None:
        task = self._tasks.get(frame.values["id"])
        if task is None:
            return
        kind = frame.values["kind"]
        if kind in ("preparing", "started"):
            task.is_running = True
        if kind == "step":
            task.step = frame.values["step"]
        if kind in ("finished", "failed"):
            # Ended by itself: there is nothing to cancel.
            del self._tasks[task.id]
        task.events.put(frame)

    def _tell_positions(self, positions: Mapping[str, int]) -> None:
        for identifier, position in positions.items():
            task = self._tasks.get(identifier)
            if task is not None:
                values = {"op": "event", "id": identifier, "kind": "position"}
                task.events.put(Frame({**values, "position": position}))

    def _after_crash(self) -> None:
        """What was running gets an error, since it may be the reason; what waited, waits on."""
        for task in list(self._tasks.values()):
            task.crashes += 1
            if task.is_running:
                self._end(task, "worker_unavailable", "the engine was restarted; try again")
            elif task.crashes >= MOST_CRASHES:
                self._end(task, "internal_error", "the engine ended twice while it waited")

    def _fail_all(self, reason: str) -> None:
        for task in list(self._tasks.values()):
            self._end(task, "internal_error", reason)

    def _end(self, task: _Task, code: str, message: str) -> None:
        self._tasks.pop(task.id, None)
        values = {"op": "event", "id": task.id, "kind": "failed", "code": code, "message": message}
        task.events.put(Frame(values))
