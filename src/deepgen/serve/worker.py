"""The engine in a process of its own: ``python -m deepgen.serve.worker``, started by the server.

Frames with commands come on standard input, frames with events go to standard output. A crash or a
hang of the device takes this process along, and not the server.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import BufferedIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from deepgen.config.serve import usual_rows
from deepgen.config.solver import solver_from_json
from deepgen.library_logs import quiet_libraries
from deepgen.serve.frames import Frame, packed, read_frame

if TYPE_CHECKING:
    from deepgen.pipeline.engine import Engine, Event, Job

WARM_UP_STEPS = 2

USUAL_TOKENS = 1 << 17
"""Of a pass on a CPU, where time is scarcer than memory."""


def image_frame(image: Image.Image) -> tuple[dict[str, int], bytes]:
    """An image of one or three channels as it travels: its size, and its bytes."""
    return {"width": image.width, "height": image.height}, image.tobytes()


def read_image_frame(mode: str, size: Mapping[str, Any], data: bytes) -> Image.Image:
    """The image of :func:`image_frame`."""
    return Image.frombytes(mode, (size["width"], size["height"]), data)


class Worker:
    """Runs the engine; commands are ``submit`` and ``cancel``.

    Args:
        commands: Where frames come from.
        events: Where frames go.
        settings: What the server started this process with.
    """

    def __init__(
        self, commands: BufferedIOBase, events: BufferedIOBase, settings: dict[str, Any]
    ) -> None:
        self.settings = settings
        self._events = events
        self._inbox: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()
        self._engine: Engine | None = None
        threading.Thread(target=self._read, args=(commands,), daemon=True).start()

    def run(self) -> None:
        """Load the model, then work until the server is gone."""
        engine = self._engine = self._load()
        while True:
            frames = self._waiting_frames(block=engine.is_idle)
            for frame in frames:
                if frame is None:
                    return
                self._obey(engine, frame)
            if engine.is_idle:
                continue
            started = time.perf_counter()
            for event in engine.tick():
                self._report(event)
            self._send(
                {
                    "op": "tick",
                    "seconds": time.perf_counter() - started,
                    "rows": engine.running_rows,
                    "tokens": engine.running_tokens,
                    "waiting": engine.waiting,
                    "seconds_per_token": engine.seconds_per_token,
                    "token_steps": engine.token_steps,
                    "positions": engine.positions(),
                }
            )

    def _load(self) -> Engine:
        """The engine, which has made an image already."""
        from deepgen.devices import local_device, pick_device
        from deepgen.images.tensors import to_image
        from deepgen.pipeline.engine import Engine, EngineLimits
        from deepgen.pipeline.loading import load

        settings = self.settings
        device = local_device(pick_device(settings["device"]))
        pipe, plan = load(
            Path(settings["path"]),
            dtype=settings["dtype"],
            device=device,
            rope_precision=settings["rope_precision"],
            adapters=[(Path(path), scale) for path, scale in settings["adapters"]],
            memory=settings["memory"],
            quantize=settings["quantize"],
            compile=settings["compile"],
        )
        model = pipe.model
        rows = usual_rows(has_gpu=device.type != "cpu", is_memory_planned=plan is not None)
        images = 1 if settings["deterministic"] else EngineLimits().images
        limits = EngineLimits(
            rows=settings["max_batch_rows"] or rows,
            tokens=settings["max_batch_tokens"] or USUAL_TOKENS,
            images=images,
        )
        engine = Engine(model, limits, source=settings["source"], placement=pipe._placement)
        # The server enlarges and composites, beside this thread: edits have up to 25 megapixels.
        engine.finish = lambda pixels, _: to_image(pixels)
        # Prompts of different length go through together on an accelerator, too.
        model.dit.attention_by_row = device.type != "cpu"
        measures = device.type == "cuda" and plan is None and settings["max_batch_tokens"] is None
        self._warm_up(engine, measures_tokens=measures)
        # A job that kills this process must have been seen to begin.
        engine.on_start = lambda job: self._send(
            {"op": "event", "id": job.id, "kind": "preparing", "step": 0}
        )
        return engine

    def _warm_up(self, engine: Engine, *, measures_tokens: bool) -> None:
        """Make an image, so that previews have colours and the first request is fast; tell so.

        Raises:
            RuntimeError: The model cannot generate.
        """
        model, started = engine.model, time.perf_counter()
        engine.submit(self._job(engine, _warm_up_job(model.defaults.num_inference_steps), []))
        while not engine.is_idle:
            for event in engine.tick():
                if event.kind == "failed":
                    raise RuntimeError(f"the model cannot generate: {event.message}")
        if measures_tokens:
            engine.limits = replace(engine.limits, tokens=self._measured_tokens(engine))
        self._send(
            {
                "op": "ready",
                "device": str(engine.device),
                "dtype": str(model.dtype).removeprefix("torch."),
                "rows": engine.limits.rows,
                "tokens": engine.limits.tokens,
                "seconds": time.perf_counter() - started,
                "seconds_per_token": engine.seconds_per_token,
            }
        )

    def _measured_tokens(self, engine: Engine) -> int:
        """See :mod:`deepgen.serve.calibration`."""
        from deepgen.serve.calibration import MEASURED_STEPS, calibrated_tokens

        defaults = engine.model.defaults
        side = defaults.height
        if 2 * side > engine.model.max_side:
            side //= 2

        def job(height: int, width: int) -> Job:
            values = {**_warm_up_job(MEASURED_STEPS), "steps": MEASURED_STEPS}
            return self._job(engine, {**values, "height": height, "width": width}, [])

        return calibrated_tokens(engine, job, side)

    def _obey(self, engine: Engine, frame: Frame) -> None:
        values = frame.values
        if values["op"] == "cancel":
            engine.cancel(values["id"])
            return
        try:
            engine.submit(self._job(engine, values, frame.blobs))
        except ValueError as error:
            self._fail(values["id"], "invalid_value", str(error))

    def _job(self, engine: Engine, values: dict[str, Any], blobs: Sequence[bytes]) -> Job:
        """The job of a command.

        Raises:
            ValueError: The model cannot do it.
        """
        from deepgen.pipeline.engine import Job
        from deepgen.pipeline.request import parse_requests, parse_sampling

        model = engine.model
        sizes = values["images"]
        images = [read_image_frame("RGB", *each) for each in zip(sizes, blobs, strict=False)]
        mask = read_image_frame("L", sizes[0], blobs[-1]) if values["has_mask"] else None
        (request,) = parse_requests(
            values["prompt"],
            images or None,
            negative_prompt=values["negative_prompt"],
            height=values["height"],
            width=values["width"],
            latents=None,
            channels=model.dit.config.in_channels,
            defaults=model.defaults,
            max_side=model.max_side,
        )
        sampling = parse_sampling(
            values["steps"], values["guidance"], self.settings["padding"], model.defaults
        )
        return Job(
            id=values["id"],
            client=values["client"],
            request=request,
            sampling=sampling,
            seed=values["seed"],
            deadline=time.monotonic() + values["seconds"],
            mask=mask,
            partial_steps=frozenset(values["partial_steps"]),
            preview_every=values["preview_every"],
            options=solver_from_json(values["solver"]),
        )

    def _report(self, event: Event) -> None:
        values = {"op": "event", "id": event.id, "kind": event.kind, "step": event.step}
        if event.code is not None:
            values |= {"code": event.code, "message": event.message}
        blobs = []
        if event.image is not None:
            size, data = image_frame(event.image)
            values |= size
            blobs = [data]
        self._send(values, blobs)

    def _fail(self, identifier: str, code: str, message: str) -> None:
        values = {"op": "event", "id": identifier, "kind": "failed"}
        self._send({**values, "step": 0, "code": code, "message": message})

    def _send(self, values: dict[str, Any], blobs: Sequence[bytes] = ()) -> None:
        self._events.write(packed(Frame(values, blobs)))
        self._events.flush()

    def _waiting_frames(self, *, block: bool) -> list[Frame | None]:
        frames = [self._inbox.get()] if block else []
        while not self._inbox.empty():
            frames.append(self._inbox.get())
        return frames

    def _read(self, commands: BufferedIOBase) -> None:
        try:
            while (frame := read_frame(commands)) is not None:
                self._inbox.put(frame)
        finally:
            self._inbox.put(None)


def _warm_up_job(default_steps: int) -> dict[str, Any]:
    return {
        "op": "submit",
        "id": "warm-up",
        "client": "",
        "prompt": "a red circle on a blue background",
        "negative_prompt": None,
        "height": None,
        "width": None,
        "steps": min(WARM_UP_STEPS, default_steps),
        "guidance": None,
        "seed": 0,
        "seconds": 3600.0,
        "images": [],
        "has_mask": False,
        "partial_steps": [],
        "preview_every": 0,
        "solver": {},
    }


def main() -> None:
    """Work for the server that started this process; settings are the first argument, as JSON."""
    # The server decides when to end, also where a terminal or systemd sends a signal to both.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    quiet_libraries()
    events = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # Whatever a library prints must not get between frames.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    # Of a type of its own, where sys.stdin may be replaced by anything.
    commands = os.fdopen(os.dup(sys.stdin.fileno()), "rb")
    Worker(commands, events, json.loads(sys.argv[1])).run()


if __name__ == "__main__":
    main()
