"""Scoring the images of a run: resumable, concurrent, and the same whatever the order.

A record belongs to the hash of its image. An image with a record is not scored again, so a scorer
may be killed at any moment, and an image that was generated again is scored again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Literal

from deepgen.errors import ImageError
from deepgen.eval.benchmark import STATUSES, ImageRecord, Item
from deepgen.eval.run.folder import ImageEntry, ImageKey
from deepgen.eval.run.generation import Shard
from deepgen.eval.run.layout import read_stored_image
from deepgen.eval.run.planned import PlannedRun
from deepgen.eval.run.records import RECORDS, latest_records, write_record
from deepgen.eval.run.scorer_identity import set_scorer
from deepgen.eval.scorer import GeneratedImage, ImageScorer
from deepgen.threads import bounded_map

Outcome = Literal["scored", "not_done", "all_failed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Scoring:
    """How much of a run is scored, all processes together."""

    expected: int
    """Images that belong to the run."""
    generated: int
    """Images that are there."""
    counts: Mapping[str, int]
    """Images with each status; what has no record is missing."""
    first_failure: str = ""
    """Path and reason of the first failed image, if there is one."""

    @property
    def done(self) -> bool:
        """Every image is there and has a record."""
        return self.counts["missing"] == 0

    @property
    def outcome(self) -> Outcome:
        """Whether there are scores of the whole run, in one word."""
        if not self.done:
            return "not_done"
        return "scored" if self.counts["scored"] else "all_failed"


def score(
    run: PlannedRun,
    scorer: ImageScorer,
    *,
    shard: Shard | None = None,
    retry_failed: bool = False,
    advance: Callable[[], None] = lambda: None,
) -> Scoring:
    """Score every image of this process's shard that has no record yet.

    Args:
        shard: The shard; None is all.
        retry_failed: Whether failed images are scored again.
        advance: Called once per image of the shard, scored now or before.

    Raises:
        BenchmarkError: Another scorer has begun to score this run.
        ScorerError: Nothing can be scored; earlier records stay.
    """
    shard = shard or Shard()
    mine = {item.id: item for item in run.ordered[shard.rank :: shard.count]}
    images = run.finished()
    known = latest_records(run.folder.path, images)
    todo = []
    for image, line in images.items():
        if image[0] not in mine:
            continue
        old = known.get(image)
        if old is None or (retry_failed and old.status != "scored"):
            todo.append(line)
        else:
            advance()

    def score_one(line: ImageEntry) -> None:
        record = _score_one(run, mine[line.item], line, scorer)
        # At once, so that the failure of another image loses nothing of this one.
        write_record(run.folder.path, record, line.sha256)

    if todo:
        scorer.check()
    if todo or known:
        # Also where nothing is left to do: these scores must not pass for another scorer's.
        set_scorer(run.folder, scorer.identity, scorer.notes)
    if todo:
        for _ in bounded_map(score_one, todo, workers=scorer.concurrency, in_order=False):
            advance()
    return _close(run, images, shard)


def _score_one(run: PlannedRun, item: Item, line: ImageEntry, scorer: ImageScorer) -> ImageRecord:
    path = run.folder.images / line.path
    try:
        image = read_stored_image(run, item, line)
    except ImageError as fault:
        # Without the folder's name, so that equal runs have equal reports in any folder.
        reason = str(fault).replace(str(path), line.path)
        return ImageRecord(
            item=item.id, image_index=line.image_index, status="error", reason=reason
        )
    record = scorer(
        GeneratedImage(
            item=item,
            image_index=line.image_index,
            image=image,
            path=path,
            sources=tuple(run.sources / source for source in item.sources),
        )
    )
    assert (record.item, record.image_index) == (item.id, line.image_index), (
        "a record of another image"
    )
    return record


def _close(run: PlannedRun, images: Mapping[ImageKey, ImageEntry], shard: Shard) -> Scoring:
    """Count what is there, and put the records into the order of the images when that is all."""
    folder = run.folder
    latest = latest_records(folder.path, images)
    counts = Counter(record.status for record in latest.values())
    counts["missing"] += run.expected - len(latest)
    scoring = Scoring(
        expected=run.expected,
        generated=len(images),
        counts={each: counts[each] for each in STATUSES},
        first_failure=next(
            (
                f"{images[image].path}: {record.reason or record.status}"
                for image, record in latest.items()
                if record.status != "scored"
            ),
            "",
        ),
    )
    # A process with only a shard might remove records that another is just adding.
    if scoring.done and shard.count == 1:
        lines = [
            json.dumps({**asdict(record), "sha256": images[image].sha256}) + "\n"
            for image, record in latest.items()
        ]
        folder.write(PurePosixPath(RECORDS), "".join(lines).encode(), below=folder.path)
    return scoring
