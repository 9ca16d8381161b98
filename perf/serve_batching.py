"""Step-level batching of the engine against batches whose images wait for each other.

``python perf/serve_batching.py`` lets images arrive at random times (Poisson) at 80 % of what
request-level batching can make when all are there at once (its best case), and measures the mean
time from arrival to image. Two ways to serve the same arrivals, all by the engine's own steps:

- step: an image joins at the next step and leaves when it is done;
- request: all that wait and have the same steps, guidance, size and references run together from
  first step to last, as servers do by default. A batch is as large as it can be, and begins as soon
  as the one before has ended: waiting for more would only make its first image later.

Time is the CPU time of the one thread that computes, so that other work on the machine does not
count; arrivals happen on that clock. The result is ``perf/results/serve_batching.json``.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from measure import environment, write
from PIL import Image

from deepgen.pipeline.engine import Engine, EngineLimits, Job
from deepgen.pipeline.pipeline import DeepGenPipeline
from deepgen.pipeline.request import parse_requests, parse_sampling

LOAD = 0.8
ROWS = 8
IMAGES = 160
"""In each series of arrivals."""

SERIES = 2

WARM_UP = 60
"""Images that are there at once, to see how many are made in a second."""

STEPS = (10, 20, 40)
SIZES = ((64, 64), (96, 64))
PROMPTS = ("a red apple", "two green circles", "a yellow car on a blue background")


@dataclass(frozen=True)
class Arrival:
    """An image, and when it is asked for."""

    second: float
    job: Job

    @property
    def kind(self) -> object:
        """What images of a batch have in common where servers batch requests."""
        sampling, request = self.job.sampling, self.job.request
        sizes = (request.height, request.width, len(request.references))
        return sampling.steps, sampling.guidance_scale, *sizes


def jobs(engine: Engine, count: int, rng: random.Random) -> list[Job]:
    """Images of several steps, sizes and guidance scales; every fifth is an edit."""
    model, found = engine.model, []
    source = Image.new("RGB", (64, 64), "red")
    for number in range(count):
        is_edit = number % 5 == 4
        height, width = rng.choice(SIZES)
        (request,) = parse_requests(
            "make the background yellow" if is_edit else rng.choice(PROMPTS),
            [source] if is_edit else None,
            negative_prompt=None,
            height=None if is_edit else height,
            width=None if is_edit else width,
            latents=None,
            channels=model.dit.config.in_channels,
            defaults=model.defaults,
            max_side=model.max_side,
        )
        guidance = rng.choice((1.0, 1.0, 3.0))
        sampling = parse_sampling(rng.choice(STEPS), guidance, None, model.defaults)
        job = Job(id=str(number), client="all", request=request, sampling=sampling, seed=number)
        found.append(job)
    return found


def step_level(engine: Engine, arrivals: Sequence[Arrival]) -> list[float]:
    """Seconds from each arrival to its image."""
    waiting, now, seconds = deque(arrivals), 0.0, []
    started = {each.job.id: each.second for each in arrivals}
    while waiting or not engine.is_idle:
        if engine.is_idle:
            now = max(now, waiting[0].second)
        while waiting and waiting[0].second <= now:
            engine.submit(waiting.popleft().job)
        begun = time.process_time()
        events = engine.tick()
        now += time.process_time() - begun
        seconds += [now - started[each.id] for each in events if each.kind == "finished"]
    return seconds


def request_level(engine: Engine, arrivals: Sequence[Arrival]) -> list[float]:
    """The same, where a batch is closed from its first step to its last."""
    coming, waiting, now, seconds = deque(arrivals), list[Arrival](), 0.0, []
    while coming or waiting:
        if not waiting:
            now = max(now, coming[0].second)
        while coming and coming[0].second <= now:
            waiting.append(coming.popleft())
        batch, rows = list[Arrival](), 0
        for each in waiting:
            fits = rows + each.job.rows <= ROWS
            if fits and each.kind == waiting[0].kind:
                batch.append(each)
                rows += each.job.rows
        waiting = [each for each in waiting if each not in batch]
        begun = time.process_time()
        for each in batch:
            engine.submit(each.job)
        while not engine.is_idle:
            engine.tick()
        now += time.process_time() - begun
        seconds += [now - each.second for each in batch]
    return seconds


def main() -> None:
    """Measure, and write the result."""
    torch.set_num_threads(1)
    pipe = DeepGenPipeline.from_pretrained("mini", device="cpu")
    engine = Engine(pipe.model, EngineLimits(rows=ROWS, admitted=ROWS))
    ways: dict[str, Callable[[Sequence[Arrival]], list[float]]] = {
        "step": lambda arrivals: step_level(engine, arrivals),
        "request": lambda arrivals: request_level(engine, arrivals),
    }
    before = environment()
    series = [jobs(engine, IMAGES, random.Random(number)) for number in range(SERIES)]
    # All there at once; the first images warm everything up.
    step_level(engine, [Arrival(0.0, each) for each in series[0][:ROWS]])
    together = [Arrival(0.0, each) for each in series[0][:WARM_UP]]
    capacity = {name: WARM_UP / max(way(together)) for name, way in ways.items()}
    rate = LOAD * capacity["request"]
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number, each in enumerate(series):
        rng = random.Random(100 + number)
        second, arrivals = 0.0, []
        for job in each:
            second += rng.expovariate(rate)
            arrivals.append(Arrival(second, replace(job, id=f"{number} {job.id}")))
        for name, way in ways.items():
            seconds[name] += way(arrivals)
            print(number, name, round(float(np.mean(seconds[name])), 2), flush=True)
    means = {name: float(np.mean(each)) for name, each in seconds.items()}
    result: dict[str, Any] = {
        "environment": before,
        "images": SERIES * IMAGES,
        "rows": ROWS,
        "arrivals a second": round(rate, 3),
        "images a second, all there at once": {k: round(v, 3) for k, v in capacity.items()},
        "mean seconds to an image": {name: round(each, 2) for name, each in means.items()},
        "p95 seconds to an image": {
            name: round(float(np.percentile(each, 95)), 2) for name, each in seconds.items()
        },
        "mean of step, relative to": {
            name: round(means["step"] / each, 3) for name, each in means.items() if name != "step"
        },
    }
    write("serve_batching", result)


if __name__ == "__main__":
    main()
