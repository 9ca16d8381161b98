"""Any reward behind HTTP, as ``deepgen rewards serve`` offers it (see ``scoring/remote.py``)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from deepgen.rl.rewards.base import Need, Reward
from deepgen.scoring.remote import RemoteScorer, Worker, WorkerConfig


def create_reward(
    *,
    url: str,
    bounds: Sequence[int | float] = (-math.inf, math.inf),
    needs: Need = "prompt",
    concurrency: int = 4,
    timeout_seconds: float = 30.0,
) -> Reward:
    """The reward that a server at an address computes.

    Args:
        bounds: Its declared range; what is outside counts as failed.
        needs: What prompts must come with.
        concurrency: Groups in flight.
        timeout_seconds: For one request.

    Raises:
        ScorerError: The server does not answer.
    """
    low, high = map(float, bounds)
    config = WorkerConfig(
        base_url=url,
        concurrency=concurrency,
        timeout_seconds=timeout_seconds,
        # The pool repeats requests, for the failed images only.
        request_attempts=1,
    )
    return Reward(
        name="remote",
        scorer=RemoteScorer(Worker(config), (low, high)),
        needs=needs,
        concurrency=concurrency,
        timeout_seconds=2 * timeout_seconds,
    )
