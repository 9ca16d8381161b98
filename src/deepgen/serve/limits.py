"""How many images a client may ask for in a minute, and how much memory requests may take."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from deepgen.config.serve import ServeConfig
from deepgen.serve.errors import ApiError

USUAL_PER_MINUTE = 60
"""Where others can reach the server."""

MAX_CLIENTS = 10_000


class RateLimit:
    """A token bucket for each client: a minute's worth at once, refilled evenly.

    Args:
        config: The limit.
        clock: In seconds.
    """

    def __init__(self, config: ServeConfig, clock: Callable[[], float] = time.monotonic) -> None:
        usual = None if config.is_local else USUAL_PER_MINUTE
        self.per_minute = config.images_per_minute or usual
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str, images: int) -> None:
        """Let a client have images.

        Raises:
            ApiError: It has had too many.
        """
        if self.per_minute is None:
            return
        now = self._clock()
        left, then = self._buckets.get(client, (float(self.per_minute), now))
        left = min(self.per_minute, left + (now - then) * self.per_minute / 60)
        if left < images:
            seconds = math.ceil((images - left) * 60 / self.per_minute)
            message = f"{self.per_minute} images a minute are the limit; try again in {seconds} s"
            after = min(120, max(1, seconds))
            raise ApiError("rate_limit_exceeded", message, retry_after=after)
        self._buckets[client] = (left - images, now)
        self._buckets.move_to_end(client)
        if len(self._buckets) > MAX_CLIENTS:
            self._buckets.popitem(last=False)


class ByteBudget:
    """Memory for the bodies and the decoded images of all requests together.

    Args:
        total: In bytes.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0

    def reserve(self, request: Any, count: int) -> None:
        """Take room until the request has been answered.

        Args:
            request: With a ``state``; its end gives the room back, see :meth:`release`.
            count: In bytes.

        Raises:
            ApiError: There is none at present, or never.
        """
        if count > self.total:
            message = f"the images need {count >> 20} MiB, {self.total >> 20} MiB are the limit"
            raise ApiError("image_too_large", message, param="image")
        if self.used + count > self.total:
            message = "too many uploads at once; try again later"
            raise ApiError("rate_limit_exceeded", message, retry_after=5)
        self.used += count
        request.state.reserved = getattr(request.state, "reserved", 0) + count

    def release(self, count: int) -> None:
        """Give room back."""
        self.used -= count
