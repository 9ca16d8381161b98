"""A scorer that sees a number in every image, and a process that scores a whole run with it.

As a program: folder, rank, number of processes, order of the items, seconds an image takes, items.
"""

from __future__ import annotations

import hashlib
import random
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from deepgen.errors import ScorerError
from deepgen.eval.benchmark import ImageRecord, Item
from deepgen.eval.run.generation import Shard
from deepgen.eval.run.scoring import Scoring, score
from deepgen.eval.scorer import GeneratedImage, ImageScorer
from tests.eval.generating import make_items, planned


class NumberScorer(ImageScorer):
    """Every fourth number or so is refused."""

    def __init__(
        self,
        *,
        name: str = "numbers",
        concurrency: int = 1,
        seconds: float = 0.0,
        gone_after: int | None = None,
    ) -> None:
        super().__init__({"model": name}, concurrency=concurrency)
        self.seconds = seconds
        self.gone_after = gone_after
        self.seen: list[GeneratedImage] = []
        self.checks = 0
        self._lock = threading.Lock()

    def check(self) -> None:
        self.checks += 1

    def __call__(self, generated: GeneratedImage) -> ImageRecord:
        time.sleep(self.seconds)
        with self._lock:
            if self.gone_after is not None and len(self.seen) >= self.gone_after:
                raise ScorerError("the judge has gone; start it again")
            self.seen.append(generated)
        number = hashlib.sha256(generated.image.tobytes()).digest()[0]
        if number % 4 == 0:
            return ImageRecord(
                item=generated.item.id,
                image_index=generated.image_index,
                status="refused",
                reason="a filter",
            )
        return ImageRecord(
            item=generated.item.id, image_index=generated.image_index, values={"number": number}
        )


def judge(
    folder: Path,
    items: Sequence[Item],
    scorer: NumberScorer,
    shard: Shard | None = None,
    *,
    retry_failed: bool = False,
) -> Scoring:
    return score(planned(folder, items), scorer, shard=shard, retry_failed=retry_failed)


if __name__ == "__main__":
    _, path, rank, count, order, pause, number = sys.argv
    shuffled = random.Random(int(order)).sample(make_items(int(number)), k=int(number))
    judge(
        Path(path),
        shuffled,
        NumberScorer(concurrency=2, seconds=float(pause)),
        Shard(rank=int(rank), count=int(count)),
    )
