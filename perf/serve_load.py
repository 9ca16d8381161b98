"""The server under load: many clients at once, some of whom leave, vanish or send garbage.

``python perf/serve_load.py result.json --minutes 5`` starts ``deepgen serve`` with the embedded
model, first asks for images one after the other, then with all clients at once. Every image is
compared with the one that the pipeline makes of the same request alone. The result has counts,
waiting times and their bound, memory of both processes over time, and the ratio of throughputs.

The bound follows from what the server promises: a full queue refuses, images begin in the order in
which they came (all clients here have one address, so there are no turns), and none begins before
there is room. See :func:`most_work`. It is work, in tokens times steps; the engine's own counter,
read every second, says how many seconds it is at the time.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from measure import environment
from PIL import Image

from deepgen.config.serve import tokens_of
from deepgen.pipeline.pipeline import DeepGenPipeline

PROMPTS = ("a red apple", "an apple on a blue background", "two green circles", "a yellow car")
EDITS = ("make the background yellow", "make the background blue")
SIZES = ((64, 64), (96, 64), (64, 96))
SEEDS = 3
STEPS = 20

ROWS = 8
"""Images that the engine makes at once; none here is guided, so each is one row."""

MOST_WAITING = 64
"""As ``--max-queue`` has it."""

PRICE = STEPS * max(
    *(tokens_of([(height, width)], 1.0) for width, height in SIZES), tokens_of([SIZES[0]] * 2, 1.0)
)
"""Tokens times steps of the image that costs most, as the server counts them."""

SAMPLE_SECONDS = 1.0
MEMORY_SECONDS = 30.0

WARM_SECONDS = 300.0
"""Before memory has to be flat."""

SEQUENTIAL = 30
"""Images that are made one after the other, to compare with."""


@dataclass
class Tally:
    """What happened to requests."""

    ends: Counter[str] = field(default_factory=Counter)
    waits: list[tuple[float, float]] = field(default_factory=list)
    """Beginning and end of each request that got an image."""
    largest_difference: int = 0


Key = tuple[str, int, tuple[int, int], bool]


def expected_images() -> dict[Key, Image.Image]:
    """Every image of the test, made alone."""
    pipe = DeepGenPipeline.from_pretrained("mini")
    pipe.set_progress_bar_config(disable=True)
    found = {}
    for seed in range(SEEDS):
        for prompt in PROMPTS:
            for width, height in SIZES:
                made = pipe(
                    prompt, seed=seed, width=width, height=height, num_inference_steps=STEPS
                )
                found[prompt, seed, (width, height), False] = made.images[0]
        first = found[PROMPTS[0], 0, SIZES[0], False]
        for prompt in EDITS:
            made = pipe(prompt, first, seed=seed, num_inference_steps=STEPS)
            found[prompt, seed, SIZES[0], True] = made.images[0]
    return found


def memory(pid: int) -> float:
    """Resident MiB of a process."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    (line,) = (each for each in text.splitlines() if each.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def children(pid: int) -> list[int]:
    """Processes that a process started."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(each) for each in text.split()]


def most_work(clients: int) -> int:
    """Tokens times steps that the engine makes, at most, from a request to its image.

    Ahead are the images that were there before: at most ``MOST_WAITING`` wait, this one included,
    and ``ROWS`` run, and every client has one. While this one runs itself, ``ROWS - 1`` that came
    later may run beside it.
    """
    return PRICE * (min(clients, MOST_WAITING + ROWS) + ROWS - 1)


async def metric(client: httpx2.AsyncClient, url: str, name: str) -> float:
    """A value of the server's metrics."""
    text = (await client.get(f"{url}/metrics")).text
    return float(dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")[name])


def waiting(
    waits: Sequence[tuple[float, float]], done: Sequence[tuple[float, float]], clients: int
) -> dict[str, Any]:
    """Seconds to an image, and their bound.

    Args:
        waits: Beginning and end of each request.
        done: Time, and what the engine had made until then.
        clients: Of the server.
    """
    times, made = np.array(done).T
    begins, ends = np.array(waits).T
    works = np.interp(ends, times, made) - np.interp(begins, times, made)
    seconds, bound = ends - begins, most_work(clients)
    rate = (made[-1] - made[0]) / (times[-1] - times[0])
    minutes = np.arange(times[0], times[-1], 60.0)
    slowest = float(np.diff(np.interp(minutes, times, made)).min()) / 60 if len(minutes) > 1 else 0
    p95 = float(np.percentile(seconds, 95))
    # Of each request, at the rate of the engine between its beginning and its end.
    own_bounds = bound * seconds / np.maximum(works, 1)
    return {
        "seconds to an image": {
            f"p{each}": round(float(np.percentile(seconds, each)), 2) for each in (50, 95, 99)
        },
        "bound of the wait": {
            "tokens times steps": bound,
            "engine's rate, a second": round(rate),
            "in the slowest minute": round(slowest),
            "s at the rate of the whole run": round(bound / rate, 2),
            "s at the rate of the slowest minute": round(bound / slowest, 2) if slowest else None,
            "p95 of the wait, relative to the whole run's": round(p95 / (bound / rate), 3),
            "p95 of wait to bound, each at the rate while it waited": round(
                float(np.percentile(seconds / own_bounds, 95)), 3
            ),
            "requests within the bound, of 1": round(float((works <= bound).mean()), 5),
        },
    }


def growth(used: Sequence[dict[str, float]]) -> dict[str, float]:
    """MiB a minute by which processes grow once they are warm, by least squares."""
    late = [each for each in used if each["seconds"] >= WARM_SECONDS] or list(used)
    minutes = np.array([each["seconds"] / 60 for each in late])
    return {
        name: round(float(np.polyfit(minutes, [each[name] for each in late], 1)[0]), 4)
        for name in ("server", "engine")
    }


class Load:
    """Clients of one server."""

    def __init__(self, url: str, images: dict[Key, Image.Image]) -> None:
        self.url = url
        self.images = images
        self.tally = Tally()
        content = BytesIO()
        images[PROMPTS[0], 0, SIZES[0], False].save(content, format="PNG")
        self.upload = content.getvalue()

    async def ask(self, client: httpx2.AsyncClient, key: Key) -> None:
        """One request, and a look at what came."""
        prompt, seed, (width, height), is_edit = key
        values: dict[str, Any] = {"prompt": prompt, "seed": seed, "steps": STEPS}
        started = time.monotonic()
        if is_edit:
            found = await client.post(
                f"{self.url}/v1/images/edits",
                data={name: str(value) for name, value in values.items()},
                files={"image": self.upload},
            )
        else:
            values["size"] = f"{width}x{height}"
            found = await client.post(f"{self.url}/v1/images/generations", json=values)
        if found.status_code != 200:
            error = found.json()["error"]["code"]
            self.tally.ends[f"{found.status_code} {error}"] += 1
            if found.status_code == 429:
                assert int(found.headers["retry-after"]) >= 1
                await asyncio.sleep(1)
            return
        self.tally.waits.append((started, time.monotonic()))
        data = base64.b64decode(found.json()["data"][0]["b64_json"])
        with Image.open(BytesIO(data)) as image:
            mine = np.asarray(image.convert("RGB"), np.int16)
        expected = np.asarray(self.images[key], np.int16)
        assert mine.shape == expected.shape, key
        difference = int(np.abs(mine - expected).max())
        self.tally.largest_difference = max(self.tally.largest_difference, difference)
        self.tally.ends["image" if difference <= 1 else "wrong image"] += 1

    async def visit(self, until: float, rng: random.Random) -> None:
        """A client that asks again and again, leaves early now and then, or talks nonsense."""
        async with httpx2.AsyncClient(timeout=300) as client:
            while time.monotonic() < until:
                key = rng.choice(list(self.images))
                kind = rng.random()
                if kind < 0.10:
                    await self.leave(client, key, rng)
                elif kind < 0.15:
                    await self.vanish(rng)
                elif kind < 0.20:
                    await self.talk_nonsense(client, rng)
                else:
                    await self.ask(client, key)

    async def leave(self, client: httpx2.AsyncClient, key: Key, rng: random.Random) -> None:
        """Ask, and end the request early."""
        try:
            async with asyncio.timeout(rng.uniform(0.01, 2)):
                await self.ask(client, key)
        except TimeoutError:
            self.tally.ends["left"] += 1

    async def vanish(self, rng: random.Random) -> None:
        """Ask on a connection that is dropped without a word."""
        host, port = self.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        values = {"prompt": rng.choice(PROMPTS), "stream": rng.random() < 0.5}
        body = json.dumps(values).encode()
        head = "POST /v1/images/generations HTTP/1.1\r\nHost: localhost"
        head += f"\r\nContent-Length: {len(body)}"
        writer.write(f"{head}\r\nContent-Type: application/json\r\n\r\n".encode() + body)
        await writer.drain()
        await asyncio.sleep(rng.uniform(0, 1))
        writer.transport.abort()
        self.tally.ends["vanished"] += 1

    async def talk_nonsense(self, client: httpx2.AsyncClient, rng: random.Random) -> None:
        """Send what is no request."""
        content = rng.randbytes(rng.randrange(2000))
        kind = rng.choice(["application/json", "multipart/form-data; boundary=x", "text/plain"])
        path = rng.choice(["generations", "edits"])
        headers = {"content-type": kind}
        url = f"{self.url}/v1/images/{path}"
        found = await client.post(url, content=content, headers=headers)
        assert 400 <= found.status_code < 500, found.text
        self.tally.ends["nonsense refused"] += 1


async def measured(url: str, pid: int, clients: int, minutes: float) -> dict[str, Any]:
    """The whole test."""
    async with httpx2.AsyncClient(timeout=300) as client:
        while (await client.get(f"{url}/readyz")).status_code != 200:
            await asyncio.sleep(0.2)
    load = Load(url, expected_images())
    rng = random.Random(0)
    keys = list(load.images)
    # Warm, then one after the other.
    async with httpx2.AsyncClient(timeout=300) as client:
        for key in keys[:5]:
            await load.ask(client, key)
        started = time.monotonic()
        for _ in range(SEQUENTIAL):
            await load.ask(client, rng.choice(keys))
        one_by_one = SEQUENTIAL / (time.monotonic() - started)
    load.tally = Tally()
    (worker,) = children(pid)
    used: list[dict[str, float]] = []
    done: list[tuple[float, float]] = []
    started = time.monotonic()
    until = started + 60 * minutes
    visits = [
        asyncio.create_task(load.visit(until, random.Random(number))) for number in range(clients)
    ]
    async with httpx2.AsyncClient(timeout=300) as client:
        # To the last answer.
        while not all(each.done() for each in visits):
            done.append((time.monotonic(), await metric(client, url, "deepgen_token_steps")))
            seconds = round(time.monotonic() - started)
            if seconds >= len(used) * MEMORY_SECONDS:
                used.append({"seconds": seconds, "server": memory(pid), "engine": memory(worker)})
            await asyncio.sleep(SAMPLE_SECONDS)
    await asyncio.gather(*visits)
    together = load.tally.ends["image"] / (time.monotonic() - started)
    return {
        "clients": clients,
        "minutes": minutes,
        "ends": dict(load.tally.ends),
        "largest difference, of 255": load.tally.largest_difference,
        "images per second, one after the other": round(one_by_one, 2),
        "images per second, all at once": round(together, 2),
        "ratio": round(together / one_by_one, 2),
        **waiting(load.tally.waits, done, clients),
        "growth after the first minutes, MiB a minute": growth(used),
        "memory, MiB": used,
        "same engine at the end": children(pid) == [worker],
    }


def main() -> None:
    """Start the server, load it, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--minutes", type=float, default=5.0)
    options = parser.parse_args()
    before = environment()
    command = [sys.executable, "-m", "deepgen", "serve", "--port", "0", "--device", "cpu"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        try:
            result = asyncio.run(measured(url, server.pid, options.clients, options.minutes))
        finally:
            server.terminate()
            result_code = server.wait(60)
    result = {"environment": before, **result, "exit code": result_code}
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({**result, "memory, MiB": result["memory, MiB"][-1]}, indent=1))


if __name__ == "__main__":
    main()
