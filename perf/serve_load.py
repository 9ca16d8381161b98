"""The server under load: many clients at once, some of whom leave, vanish or send garbage.

``python perf/serve_load.py result.json --minutes 5`` starts ``deepgen serve`` with the embedded
model, first asks for images one after the other, then with all clients at once. Every image is
compared with the one that the pipeline makes of the same request alone. The result has counts,
waiting times and their bound, memory of both processes over time, and the ratio of throughputs.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import math
import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from PIL import Image

from deepgen.pipeline.pipeline import DeepGenPipeline

PROMPTS = ("a red apple", "an apple on a blue background", "two green circles", "a yellow car")
EDITS = ("make the background yellow", "make the background blue")
SIZES = ((64, 64), (96, 64), (64, 96))
SEEDS = 3
STEPS = 20

ROWS = 8
"""Images that the engine makes at once; none here is guided, so each is one row."""

SAMPLE_SECONDS = 15.0

SEQUENTIAL = 30
"""Images that are made one after the other, to compare with."""


@dataclass
class Tally:
    """What happened to requests."""

    ends: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
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


def wait_bound(clients: int, tick_seconds: float) -> float:
    """Longest time to an image where nothing but the work that was there before has to be done.

    Every client has at most one request, so at most ``clients - 1`` are ahead. The engine makes
    ``ROWS`` at once, each in ``STEPS`` ticks, in the order in which they came (all clients have
    one address, so there are no turns): the last begins after that many rounds, and takes another.

    Args:
        clients: Of the server.
        tick_seconds: Of the engine, as its metrics say.
    """
    rounds = math.ceil((clients - 1) / ROWS) + 1
    return rounds * STEPS * tick_seconds


async def ticks(client: httpx2.AsyncClient, url: str) -> tuple[float, int]:
    """Seconds and number of all ticks so far."""
    text = (await client.get(f"{url}/metrics")).text
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
    name = "deepgen_tick_seconds"
    return float(values[f"{name}_sum"]), int(float(values[f"{name}_count"]))


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
        self.tally.seconds.append(time.monotonic() - started)
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
    used = []
    started = time.monotonic()
    until = started + 60 * minutes
    visits = [
        asyncio.create_task(load.visit(until, random.Random(number))) for number in range(clients)
    ]
    # Means over a sample: other work on the machine makes some of them slow.
    tick_seconds: list[float] = []
    async with httpx2.AsyncClient(timeout=300) as client:
        done = await ticks(client, url)
        while time.monotonic() < until:
            seconds = round(time.monotonic() - started)
            used.append({"seconds": seconds, "server": memory(pid), "engine": memory(worker)})
            await asyncio.sleep(min(SAMPLE_SECONDS, max(0.1, until - time.monotonic())))
            now = await ticks(client, url)
            if now[1] > done[1]:
                tick_seconds.append((now[0] - done[0]) / (now[1] - done[1]))
            done = now
    await asyncio.gather(*visits)
    together = load.tally.ends["image"] / (time.monotonic() - started)
    waits = np.array(load.tally.seconds)
    return {
        "clients": clients,
        "minutes": minutes,
        "ends": dict(load.tally.ends),
        "largest difference, of 255": load.tally.largest_difference,
        "images per second, one after the other": round(one_by_one, 2),
        "images per second, all at once": round(together, 2),
        "ratio": round(together / one_by_one, 2),
        "seconds to an image": {
            f"p{each}": round(float(np.percentile(waits, each)), 2) for each in (50, 95, 99)
        },
        "seconds of a tick": {
            "mean": round(float(np.mean(tick_seconds)), 4),
            f"mean of the slowest {SAMPLE_SECONDS:.0f} s": round(max(tick_seconds), 4),
        },
        "bound of the wait, s": {
            "at the mean tick": round(wait_bound(clients, float(np.mean(tick_seconds))), 2),
            "at the slowest": round(wait_bound(clients, max(tick_seconds)), 2),
        },
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
    result["exit code"] = result_code
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({**result, "memory, MiB": result["memory, MiB"][-1]}, indent=1))


if __name__ == "__main__":
    main()
