"""The engine's process: images, crashes, hangs, and what becomes of requests."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from deepgen.checkpoint.finding import find_model
from deepgen.config.serve import ServeConfig
from deepgen.serve import engine_client
from deepgen.serve.engine_client import Command, EngineClient
from deepgen.serve.errors import ApiError
from deepgen.serve.frames import Frame
from deepgen.serve.server import engine_settings
from deepgen.serve.worker import read_image_frame
from tests.serve.stub import StubEngine

T = TypeVar("T")

VALUES: dict[str, Any] = {
    "prompt": "a red apple",
    "negative_prompt": None,
    "height": None,
    "width": None,
    "steps": 4,
    "guidance": None,
    "images": [],
    "has_mask": False,
    "partial_steps": [],
    "preview_every": 0,
    "solver": {},
    "seed": 1,
}


def command(**changes: Any) -> Command:
    return Command(client="a", values={**VALUES, **changes})


async def frames(engine: EngineClient, wanted: Command, seconds: float = 60.0) -> list[Frame]:
    return [each async for each in engine.run(wanted, seconds=seconds)]


async def ready(engine: EngineClient) -> None:
    while engine.ready is None:
        assert engine.failure is None
        await asyncio.sleep(0.05)


def with_stub(test: Callable[[StubEngine], Awaitable[T]], **options: Any) -> T:
    async def run() -> T:
        engine = StubEngine(**options)
        engine.start()
        try:
            return await test(engine)
        finally:
            await engine.close()

    return asyncio.run(run())


def test_the_process_makes_images_dies_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = engine_settings(ServeConfig(device="cpu"), find_model("mini").path)
    waited = asyncio.Event()

    async def run() -> None:
        engine = EngineClient(settings, max_queue=8)
        engine.start()
        try:
            with pytest.raises(ApiError, match="being loaded"):
                engine.check_room(1, 60.0)
            await ready(engine)
            engine.check_room(1, 60.0)
            found = await frames(engine, command())
            assert [e.values["kind"] for e in found[:2]] == ["preparing", "started"]
            assert [e.values["step"] for e in found if e.values["kind"] == "step"] == [1, 2, 3, 4]
            last = found[-1]
            image = read_image_frame("RGB", last.values, last.blobs[0])
            assert image.size == (64, 64)
            again = (await frames(engine, command()))[-1]
            assert again.blobs == last.blobs
            # What the model cannot do is an error of its own request.
            with pytest.raises(ApiError, match="multiple of 32"):
                await frames(engine, command(width=65, height=64))

            long = asyncio.create_task(frames(engine, command(steps=200)))
            while not any(task.is_running for task in engine._tasks.values()):
                await asyncio.sleep(0.01)
            process = engine._process
            assert process is not None
            os.kill(process.pid, signal.SIGKILL)
            waiting = asyncio.create_task(frames(engine, command()))
            with pytest.raises(ApiError, match="restarted") as caught:
                await long
            assert caught.value.code == "worker_unavailable"
            # What had not begun is done by the next process.
            assert (await waiting)[-1].blobs == last.blobs
            assert engine.restarts == 1
            waited.set()
        finally:
            await engine.close()
        assert engine._process is None

    monkeypatch.setattr(engine_client, "BACKOFF_SECONDS", (0, 0, 0, 0))
    asyncio.run(run())
    assert waited.is_set()


def test_an_engine_that_cannot_start_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        failed = asyncio.Event()
        engine = EngineClient({"path": "absent"}, max_queue=8)
        engine.start()
        try:
            engine.on_failure = failed.set
            await asyncio.wait_for(failed.wait(), 60)
            with pytest.raises(ApiError, match="cannot be started"):
                engine.check_room(1, 60.0)
        finally:
            await engine.close()

    # A program that ends at once.
    monkeypatch.setattr(engine_client.sys, "executable", "false")
    asyncio.run(run())


def test_a_hanging_process_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_client, "HANG_SECONDS", 0.5)
    killed = []

    class Process:
        def kill(self) -> None:
            killed.append(True)

    async def run(engine: StubEngine) -> None:
        watch = asyncio.create_task(engine._watch(Process()))  # type: ignore[arg-type]
        waiting = asyncio.create_task(frames(engine, command(prompt="slow")))
        await asyncio.wait_for(watch, 10)
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting

    with_stub(run)
    assert killed


def test_who_leaves_cancels_and_who_stays_does_not() -> None:
    async def run(engine: StubEngine) -> None:
        await frames(engine, command())
        assert engine.cancelled == []
        task = asyncio.create_task(frames(engine, command(prompt="slow")))
        await asyncio.sleep(0.05)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert len(engine.cancelled) == 1
        assert not engine._tasks

    with_stub(run)


def test_a_job_that_is_there_in_two_crashes_is_given_up() -> None:
    async def run(engine: StubEngine) -> None:
        engine.silent = True
        waiting = asyncio.create_task(frames(engine, command()))
        await asyncio.sleep(0)
        engine._after_crash()
        await asyncio.sleep(0.01)
        assert not waiting.done()
        engine._after_crash()
        with pytest.raises(ApiError, match="ended twice") as caught:
            await waiting
        assert caught.value.code == "internal_error"
        # What is seen to begin may come again by itself.
        other = asyncio.create_task(frames(engine, command()))
        await asyncio.sleep(0)
        (identifier,) = engine._tasks
        engine._deliver(Frame({"op": "event", "id": identifier, "kind": "preparing", "step": 0}))
        engine._after_crash()
        with pytest.raises(ApiError, match="restarted"):
            await other

    with_stub(run)


def test_what_can_never_be_made_is_refused_at_once() -> None:
    async def run(engine: StubEngine) -> None:
        engine.check_fits(8, 1000)
        with pytest.raises(ApiError, match="needs 9 rows with 1,000 tokens") as caught:
            engine.check_fits(9, 1000)
        assert caught.value.code == "request_too_large_for_model"

    with_stub(run)


def test_a_job_that_is_late_ends_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_client, "GRACE_SECONDS", 0.0)

    async def run(engine: StubEngine) -> None:
        with pytest.raises(ApiError, match="time limit") as caught:
            await frames(engine, command(prompt="slow"), seconds=0.05)
        assert caught.value.code == "deadline_exceeded"
        assert len(engine.cancelled) == 1

    with_stub(run)


def test_a_full_queue_says_when_to_come_again() -> None:
    async def run(engine: StubEngine) -> None:
        engine.ready = {**(engine.ready or {}), "seconds_per_token": 1.0}
        tasks = [
            asyncio.create_task(frames(engine, Command(client="a", values=VALUES, price=100.0)))
            for _ in range(2)
        ]
        await asyncio.sleep(0)
        with pytest.raises(ApiError, match="images waiting: 2") as caught:
            engine.check_room(1, 300.0)
        assert (caught.value.code, caught.value.retry_after) == ("queue_full", 100)
        await asyncio.gather(*tasks)
        engine.check_room(1, 300.0)
        # What was accepted and is still on its way here counts as well: places and seconds.
        with pytest.raises(ApiError, match="images waiting: 2, for about 20 s"):
            engine.check_room(1, 300.0, [10.0, 10.0])
        with pytest.raises(ApiError, match="images waiting: 1, for about 301 s"):
            engine.check_room(1, 300.0, [301.0])
        engine.check_room(1, 300.0, [299.0])

    with_stub(run, max_queue=2)


def test_a_slow_reader_gets_the_newest_step_and_every_partial_image() -> None:
    async def run(engine: StubEngine) -> list[str]:
        kinds = []
        async for frame in engine.run(
            command(steps=20, partial_steps=[5, 10], preview_every=1), seconds=60.0
        ):
            kinds.append(frame.values["kind"])
            await asyncio.sleep(0.02)
        return kinds

    kinds = with_stub(run)
    assert kinds.count("partial") == 2
    assert kinds.count("step") < 10
    assert kinds[-1] == "finished"
