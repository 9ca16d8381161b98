"""Reward servers that fail in every way, against the same rewards marked missing by hand."""

from __future__ import annotations

import base64
import io
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from PIL import Image

from deepgen.errors import TrainingError
from deepgen.rl.rewards.base import Reward, RewardItem, count_missing, reward_tensors
from deepgen.rl.rewards.limits import FailureLimits, FailureWatch
from deepgen.rl.rewards.pool import RetryPolicy, RewardPool
from deepgen.rl.rewards.registry import create_reward
from tests.scoring.servers import Heard, Said, serve

GROUPS, IMAGES = 30, 4
WEIGHTS = {"general": {"red": 0.5, "green": 0.3, "blue": 0.2}}
DEAD = range(20, 50)
"""Requests during which the server of blue does not answer."""


def level(image: Image.Image, channel: int) -> float:
    pixel = image.getpixel((0, 0))
    assert isinstance(pixel, tuple)
    return pixel[channel] / 255


def items(group: int) -> list[RewardItem]:
    rng = random.Random(group)
    return [
        RewardItem(
            image=Image.new("RGB", (2, 2), tuple(rng.randrange(256) for _ in range(3))), prompt="a"
        )
        for _ in range(IMAGES)
    ]


def scores(heard: Heard, channel: int) -> list[dict[str, Any]]:
    def decoded(text: str) -> Image.Image:
        return Image.open(io.BytesIO(base64.b64decode(text)))

    return [
        {"id": each["id"], "value": level(decoded(each["image"]), channel)}
        for each in heard.body["items"]
    ]


def chaotic(channel: int, dead: range = range(0)) -> Callable[[Heard], Said]:
    """20 % errors, 10 % hang, 5 % NaN, 5 % too few; dead for a while; answers out of order."""
    rng, lock, count = random.Random(channel), threading.Lock(), 0

    def answer(heard: Heard) -> Said:
        nonlocal count
        if heard.path == "/version":
            return Said({"name": "chaos"})
        with lock:
            draw, count = rng.random(), count + 1
            number = count
        rows = scores(heard, channel)
        rng.shuffle(rows)
        if number in dead or draw < 0.1:
            return Said(status=500, body={})
        if draw < 0.2:
            return Said(drop=True)
        if draw < 0.3:
            return Said({"scores": rows}, hang_seconds=0.4)
        if draw < 0.35:
            rows[0]["value"] = float("nan")
        if draw < 0.4:
            rows = rows[1:] if draw >= 0.35 else rows
        # Out of order: some answers come after those to later requests.
        return Said({"scores": rows}, hang_seconds=0.01 * (number % 3))

    return answer


def remote(url: str) -> Reward:
    return create_reward(
        "r", kind="remote", url=url, bounds=(0.0, 1.0), timeout_seconds=0.15, concurrency=8
    )


def test_chaos_gives_what_the_same_rewards_marked_missing_by_hand_give() -> None:
    policy = RetryPolicy(backoff_seconds=0.005, deadline_seconds=30.0)
    names = ["red", "green", "blue"]
    with (
        serve(chaotic(0)) as red,
        serve(chaotic(1)) as green,
        serve(chaotic(2, DEAD)) as blue,
        RewardPool(
            {name: remote(each.url) for name, each in zip(names, (red, green, blue), strict=True)},
            WEIGHTS,
            policy,
        ) as pool,
    ):
        found = pool.collect([pool.submit(items(group)) for group in range(GROUPS)])
        counts = pool.take_counts()
    values, present = reward_tensors(found, names)
    truth = torch.tensor(
        [
            [[level(each.image, channel) for channel in range(3)] for each in items(group)]
            for group in range(GROUPS)
        ],
        dtype=torch.float64,
    )
    # Nothing but what is missing differs, and what is missing is never a number.
    torch.testing.assert_close(values, truth * present[:, None, :], rtol=0, atol=0)
    missing = count_missing(found)
    assert missing == {
        name: (int((~present[:, index]).sum()), GROUPS) for index, name in enumerate(names)
    }
    assert 0 < missing["blue"][0] < GROUPS
    assert missing["red"][0] < GROUPS
    # Which reward has which fault depends on the order in which requests arrive.
    assert sum(each.retries for each in counts.values()) > 0
    assert sum(each.errors for each in counts.values()) > 0
    assert sum(each.unreadable for each in counts.values()) > 0
    watch = FailureWatch(FailureLimits(window=1))
    with pytest.raises(TrainingError, match=r"the reward blue is missing for \d+ of 30 groups"):
        watch.add({"blue": missing["blue"]})
