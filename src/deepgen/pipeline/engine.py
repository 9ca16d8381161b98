"""Images of many requests at once: each begins and ends when it likes, between two steps.

One *tick* of the engine lets images in, makes one step of all that run, with rows of equal shape in
one pass through the DiT, and lets those out that are done. An image is the one that the pipeline
makes of the same request alone, to rounding: it has its own noise, schedule, guidance, references
and size, and preparing, stepping and decoding are the pipeline's own functions.

Step-level batching of language models: Orca (Yu et al., OSDI 2022).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from PIL import Image
from torch import Generator, nn

from deepgen.config.memory import TOKEN_SIDE
from deepgen.config.serve import rows_of, tokens_of
from deepgen.config.solver import DEFAULT_SOLVER, SolverOptions
from deepgen.dit.groups import Group
from deepgen.flow.schedule import sampling_sigmas
from deepgen.images.masks import composite
from deepgen.model import DeepGen
from deepgen.pipeline.denoising import Denoising, Kept, advance, begin
from deepgen.pipeline.fair_queue import FairQueue
from deepgen.pipeline.parts import (
    encode_prompts,
    encode_references,
    finished_image,
    initial_noise,
    kept_cells,
    record,
    reference_pixels,
)
from deepgen.pipeline.placement import Placement
from deepgen.pipeline.previews import PreviewMap
from deepgen.pipeline.request import Request, Sampling
from deepgen.types import Latents, Pixels

CHECK_EVERY = 10
"""Steps between two looks at whether latents are finite."""

REDUCED = 0.8
REDUCED_TICKS = 100
"""After memory ran out: at most this fraction of what was too much, for so many ticks."""

FailureCode = Literal[
    "invalid_value", "non_finite", "out_of_memory", "deadline_exceeded", "internal_error"
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One image to make."""

    id: str
    client: str
    """Clients take turns."""
    request: Request
    sampling: Sampling
    seed: int
    deadline: float = float("inf")
    """Of ``time.monotonic``; afterwards it is given up."""
    mask: Image.Image | None = None
    """Of an edit: 255 where its first reference may change, at that image's size."""
    partial_steps: frozenset[int] = frozenset()
    """After these steps, from 1, the image that forms is decoded and reported."""
    preview_every: int = 0
    """Report a small preview every so many steps."""
    options: SolverOptions = DEFAULT_SOLVER
    """How it is integrated."""

    @property
    def rows(self) -> int:
        """Rows in a pass through the DiT."""
        return rows_of(self.sampling.guidance_scale)

    @property
    def tokens(self) -> int:
        """Tokens of all its rows in a pass, contexts estimated."""
        sides = [(self.request.height, self.request.width)]
        sides += [(each.height, each.width) for each in self.request.references]
        return tokens_of(sides, self.sampling.guidance_scale)

    @property
    def price(self) -> int:
        """What it costs in all: tokens times steps."""
        return self.tokens * self.sampling.steps


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """What happened to a job."""

    id: str
    kind: Literal["started", "step", "preview", "partial", "finished", "failed"]
    step: int = 0
    """How many steps are done."""
    image: Image.Image | None = None
    code: FailureCode | None = None
    message: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineLimits:
    """How much runs at once."""

    rows: int = 16
    tokens: int = 1 << 20
    images: int = 64
    admitted: int = 4
    """Images that may begin in a tick, so that the others do not wait for many prompts."""


@dataclass(kw_only=True, slots=True)
class _Running:
    job: Job
    denoising: Denoising


def do_nothing(_: Job) -> None:
    """Nobody waits for the beginning of a job."""


class Engine:
    """Runs jobs; not thread-safe, since one thread owns the model.

    Args:
        model: Whose images; on its device.
        limits: How much runs at once.
        source: Name of the model, recorded in images.
        placement: Of an offloaded model: moves the part that is needed to the device.
    """

    def __init__(
        self,
        model: DeepGen,
        limits: EngineLimits | None = None,
        *,
        source: str | None = None,
        placement: Placement | None = None,
    ) -> None:
        self.model = model
        self._placement = placement
        self.limits = limits or EngineLimits()
        self.source = source
        self.previews = PreviewMap(model.dit.config.in_channels)
        self._queue: FairQueue[Job] = FairQueue()
        self._running: list[_Running] = []
        self._suspended: dict[str, Denoising] = {}
        """How far jobs were that wait again, since memory ran out."""
        self._joined: list[Group] | None = None
        self._joined_guided: list[bool] = []
        """Of each image, whether the joined rows have guidance, which may have an interval."""
        self.on_start: Callable[[Job], None] = do_nothing
        """Called before anything of a job is computed."""
        self.finish: Callable[[Pixels, Job], Image.Image] = finished
        """Makes the image of an event from decoded pixels."""
        self._tick = 0
        self._reduced_until = 0
        self._reduced_tokens = self.limits.tokens
        self.seconds_per_token = 0.0
        """Moving average over ticks: of one token in one step."""
        self.token_steps = 0
        """Tokens of all steps so far, contexts estimated as in :attr:`Job.price`."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.model.device if self._placement is None else self._placement.device

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self._running and not self._queue

    @property
    def waiting(self) -> int:
        """Jobs that have not begun."""
        return len(self._queue)

    @property
    def running_rows(self) -> int:
        """Rows of a pass, of steps with guidance where it has an interval."""
        return sum(each.job.rows for each in self._running)

    @property
    def running_tokens(self) -> int:
        """Tokens of the next pass, contexts estimated."""
        return sum(each.job.tokens for each in self._running)

    def positions(self) -> dict[str, int]:
        """How many jobs come before each waiting one."""
        return {each.id: place for place, each in enumerate(self._queue)}

    def fits(self, job: Job) -> bool:
        """Whether it could ever run."""
        return job.rows <= self.limits.rows and job.tokens <= self.limits.tokens

    def submit(self, job: Job) -> None:
        """Let a job wait for its turn.

        Raises:
            ValueError: It needs more than the engine has, or is to skip work with a cache, whose
                state is of steps that its rows make alone.
        """
        if job.options.cache != "none":
            raise ValueError(
                f"images made beside others have no cache, got {job.options.cache!r}; leave it out"
            )
        if not self.fits(job):
            raise ValueError(
                f"the image needs {job.rows} rows with {job.tokens:,} tokens, but there is room "
                f"for {self.limits.rows} with {self.limits.tokens:,}; use a smaller size or fewer "
                "reference images"
            )
        self._queue.push(job)

    def cancel(self, identifier: str) -> bool:
        """Drop a job at once, wherever it is; others are not touched. False if it is not here."""
        self._suspended.pop(identifier, None)
        if self._queue.remove(identifier) is not None:
            return True
        kept = [each for each in self._running if each.job.id != identifier]
        if len(kept) == len(self._running):
            return False
        self._set_running(kept)
        return True

    @torch.no_grad()
    def tick(self) -> list[Event]:
        """Let jobs in, make one step of all that run, let those out that are done."""
        self._tick += 1
        events = self._expire()
        events += self._admit()
        return events + self._step() if self._running else events

    def _expire(self) -> list[Event]:
        now = time.monotonic()
        late = [each for each in self._queue if each.deadline <= now]
        late += [each.job for each in self._running if each.job.deadline <= now]
        for job in late:
            self.cancel(job.id)
        message = "the image was not done within the time limit"
        return [_failed(job, "deadline_exceeded", message) for job in late]

    def _admit(self) -> list[Event]:
        """Let waiting jobs begin, as far as there is room."""
        events = []
        for _ in range(self.limits.admitted):
            job = self._queue.pop(self._has_room)
            if job is None:
                break
            self.on_start(job)
            try:
                denoising = self._suspended.pop(job.id, None) or self._prepare(job)
            except ValueError as error:
                events.append(_failed(job, "invalid_value", str(error)))
            except torch.OutOfMemoryError:
                if not self._running:
                    events.append(_out_of_memory(job))
                    continue
                self._queue.push_first(job)
                self._reduce(self.running_tokens + job.tokens)
                break
            else:
                self._set_running([*self._running, _Running(job=job, denoising=denoising)])
                events.append(Event(id=job.id, kind="started"))
        return events

    def _has_room(self, job: Job) -> bool:
        if not self._running:
            return True
        tokens = self.limits.tokens
        if self._tick < self._reduced_until:
            tokens = min(tokens, self._reduced_tokens)
        return (
            len(self._running) < self.limits.images
            and self.running_rows + job.rows <= self.limits.rows
            and self.running_tokens + job.tokens <= tokens
        )

    def _prepare(self, job: Job) -> Denoising:
        """Everything about an image that is the same in all steps."""
        model, request = self.model, job.request
        pixels = [reference_pixels(request, self.device)]
        self._use(model.conditioner)
        positive, negative = encode_prompts(model.conditioner, [request], pixels, job.sampling)
        if any(pixels):
            self._use(model.vae)
        (references,) = encode_references(model.vae, pixels)
        noise = initial_noise(model, request, Generator().manual_seed(job.seed)).to(self.device)
        tokens = request.height * request.width // TOKEN_SIDE**2
        sigmas = sampling_sigmas(job.sampling.steps, model.schedule, tokens=tokens)
        guidance = job.sampling.guidance_scale
        self._use(model.dit)
        denoising = begin(
            model.dit, [noise], positive, negative, [references], sigmas, guidance, job.options
        )
        if job.mask is not None:
            cells = kept_cells(job.mask, request.height, request.width).to(self.device)
            if references[0].shape != noise.shape:
                raise ValueError("with a mask the size is the first image's; leave it out")
            kept = Kept(cells=cells, clean_latents=references[0], noise=noise)
            denoising.kept = [kept]
        return denoising

    def _step(self) -> list[Event]:
        """One step of all that run."""
        started = time.perf_counter()
        tokens, dit = self.running_tokens, self.model.dit
        sets = [each.denoising for each in self._running]
        before = [replace(each) for each in sets]
        try:
            self._use(dit)
            joined = self._join(sets)
            clean = [each.clean_latents[0] for each in advance(dit, sets, joined)]
        except torch.OutOfMemoryError:
            # Some may have made the step already.
            for each, own in zip(self._running, before, strict=True):
                each.denoising = own
            return self._make_room()
        if self.device.type == "cuda":
            # Until then only kernels have been launched.
            torch.cuda.synchronize(self.device)
        self._measure((time.perf_counter() - started) / tokens)
        self.token_steps += tokens
        events: list[Event] = []
        remaining, finished, shown = [], [], []
        for each, estimate in zip(self._running, clean, strict=True):
            job, step = each.job, each.denoising.step
            if step % CHECK_EVERY == 0 and not estimate.isfinite().all():
                events.append(_not_finite(job))
                continue
            events.append(Event(id=job.id, kind="step", step=step))
            if each.denoising.is_done:
                finished.append(each)
                continue
            remaining.append(each)
            if step in job.partial_steps:
                shown.append((each, estimate))
            if job.preview_every and step % job.preview_every == 0:
                image = self.previews(estimate)
                events.append(Event(id=job.id, kind="preview", step=step, image=image))
        if len(remaining) < len(self._running):
            self._set_running(remaining)
        return events + self._finish(finished) + self._show(shown)

    def _join(self, sets: Sequence[Denoising]) -> list[Group]:
        """The rows of the next step."""
        guided = [each.guides_now for each in sets]
        if self._joined is None or self._joined_guided != guided:
            prepared = [each.current for each in sets]
            # Without other images it is computed exactly as the pipeline does.
            self._joined = prepared[0] if len(sets) == 1 else self.model.dit.join(prepared)
            self._joined_guided = guided
        return self._joined

    def _finish(self, finished: Sequence[_Running]) -> list[Event]:
        """Decode images that are done."""
        events = []
        latents = [each.denoising.latents[0] for each in finished]
        for each, own, pixels in zip(finished, latents, self._decode(latents), strict=True):
            job = each.job
            if pixels is None:
                events.append(_out_of_memory(job))
                continue
            if not pixels.isfinite().all():
                events.append(_not_finite(job))
                continue
            self.previews.learn(own, pixels)
            image = self.finish(pixels, job)
            record(
                image,
                job.request,
                seed=job.seed,
                sampling=job.sampling,
                model=self.source,
                further=job.options.changed,
            )
            event = Event(id=job.id, kind="finished", step=job.sampling.steps, image=image)
            events.append(event)
        return events

    def _show(self, shown: Sequence[tuple[_Running, Latents]]) -> list[Event]:
        """Decode images as they form."""
        events = []
        for (each, _), pixels in zip(shown, self._decode([e for _, e in shown]), strict=True):
            if pixels is not None and pixels.isfinite().all():
                image = self.finish(pixels, each.job)
                step = each.denoising.step
                events.append(Event(id=each.job.id, kind="partial", step=step, image=image))
        return events

    def _decode(self, latents: Sequence[Latents]) -> list[Pixels | None]:
        """Pixels of latents; None where memory does not suffice for an image alone."""
        try:
            if latents:
                self._use(self.model.vae)
            return list(self.model.vae.decode(latents))
        except torch.OutOfMemoryError:
            if len(latents) == 1:
                return [None]
            return [self._decode([each])[0] for each in latents]

    def _use(self, part: nn.Module) -> None:
        """Have a part of an offloaded model on the device, in place of another."""
        if self._placement is not None:
            self._placement.hold(part)

    def _make_room(self) -> list[Event]:
        """After memory ran out in a step: the last that came waits again, and keeps its steps."""
        last = self._running[-1]
        self._reduce(self.running_tokens)
        self._set_running(self._running[:-1])
        if not self._running:
            return [_out_of_memory(last.job)]
        self._suspended[last.job.id] = last.denoising
        self._queue.push_first(last.job)
        return []

    def _reduce(self, tokens: int) -> None:
        """Let in less than what was too much."""
        self._reduced_tokens = int(REDUCED * tokens)
        self._reduced_until = self._tick + REDUCED_TICKS

    def _set_running(self, running: list[_Running]) -> None:
        self._running = running
        self._joined = None

    def _measure(self, seconds: float) -> None:
        known = self.seconds_per_token
        self.seconds_per_token = seconds if not known else 0.9 * known + 0.1 * seconds


def finished(pixels: Pixels, job: Job) -> Image.Image:
    """The image that the user gets: at the original's size, with what its mask keeps."""
    image = finished_image(pixels, job.request)
    if job.mask is None:
        return image
    return composite(image, job.request.references[0].image, job.mask)


def _failed(job: Job, code: FailureCode, message: str) -> Event:
    return Event(id=job.id, kind="failed", code=code, message=message)


def _not_finite(job: Job) -> Event:
    return _failed(job, "non_finite", "the image is not finite; try another seed or less guidance")


def _out_of_memory(job: Job) -> Event:
    message = "the device has not enough memory for this image; use a smaller size"
    return _failed(job, "out_of_memory", message)
