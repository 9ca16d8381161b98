"""How many images a client may ask for in a minute."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

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
