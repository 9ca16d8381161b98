"""Scoring the images of a run: resumable, concurrent, and the same whatever the order.

A record belongs to the hash of its image. What has one is not looked at again, so a scorer may be
killed at any moment, and an image that was drawn anew is scored anew.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from deepgen.errors import ImageError
from deepgen.eval.benchmark import STATUSES, Benchmark, ImageRecord, Item
from deepgen.eval.run.folder import Drawn, ImageKey, Manifest, RunFolder
from deepgen.eval.run.generation import Shard
from deepgen.eval.run.judged_by import claim
from deepgen.eval.run.layout import read_stored_image
from deepgen.eval.run.records import RECORDS, latest_records, write_record
from deepgen.eval.scorer import Drawing, Imagescorer
from deepgen.threads import bounded_map


@dataclass(frozen=True, kw_only=True, slots=True)
class Scoring:
    """What is there of the scores of a whole run, all processes together."""

    expected: int
    """Images that belong to the run."""
    drawn: int
    """Images that are there."""
    counts: Mapping[str, int]
    """Images with each status; what has no record is missing."""
    first_failure: str = ""
    """Path and reason of the first image that could not be judged, if there is one."""

    @property
    def done(self) -> bool:
        """Every image is there, and was judged or failed to be."""
        return self.counts["missing"] == 0


def score(
    benchmark: Benchmark,
    items: Sequence[Item],
    manifest: Manifest,
    scorer: Imagescorer,
    *,
    folder: RunFolder,
    sources: Path,
    shard: Shard | None = None,
    retry_failed: bool = False,
    advance: Callable[[], None] = lambda: None,
) -> Scoring:
    """Look at every image of this process's share that has no record yet.

    Args:
        items: All items of the run, in any order.
        sources: The folder that items name their images in.
        shard: The share; None is all.
        retry_failed: Whether failed images are looked at again.
        advance: Called once per image of the share, scored now or before.

    Raises:
        BenchmarkError: Another scorer has begun to score this run.
        ScorerError: Nothing can be scored; what was scored before stays.
    """
    shard = shard or Shard()
    items = sorted(items, key=lambda item: item.number)
    mine = {item.id: item for item in items[shard.rank :: shard.count]}
    drawn = folder.finished(benchmark, manifest, items)
    known = latest_records(folder.path, drawn)
    todo = []
    for image, line in drawn.items():
        if image[0] not in mine:
            continue
        old = known.get(image)
        if old is None or (retry_failed and old.status != "scored"):
            todo.append(line)
        else:
            advance()

    def look(line: Drawn) -> None:
        record = _look(benchmark, mine[line.item], line, manifest, scorer, folder, sources)
        # By whoever has it, at once: what other images do takes nothing from this one.
        write_record(folder.path, record, line.sha256)

    if todo:
        scorer.check()
    if todo or known:
        # Also where nothing is left to do: nobody shall take these scores for another judge's.
        claim(folder, scorer.identity)
    if todo:
        for _ in bounded_map(look, todo, workers=scorer.concurrency, in_order=False):
            advance()
    return _close(folder, drawn, len(items) * manifest.rule.images_per_item, shard)


def _look(
    benchmark: Benchmark,
    item: Item,
    line: Drawn,
    manifest: Manifest,
    scorer: Imagescorer,
    folder: RunFolder,
    sources: Path,
) -> ImageRecord:
    try:
        image = read_stored_image(benchmark, item, line, manifest, folder)
    except ImageError as fault:
        # Without the folder's name, so that equal runs have equal reports wherever they lie.
        reason = str(fault).replace(str(folder.images / line.path), line.path)
        return ImageRecord(item=item.id, copy=line.copy, status="error", reason=reason)
    record = scorer(
        Drawing(
            item=item,
            copy=line.copy,
            image=image,
            path=folder.images / line.path,
            sources=tuple(sources / path for path in item.sources),
        )
    )
    assert (record.item, record.copy) == (item.id, line.copy), "a record of another image"
    return record


def _close(
    folder: RunFolder, drawn: Mapping[ImageKey, Drawn], expected: int, shard: Shard
) -> Scoring:
    """Count what is there, and put the records into the order of the images when that is all."""
    latest = latest_records(folder.path, drawn)
    counts = Counter(record.status for record in latest.values())
    counts["missing"] += expected - len(latest)
    scoring = Scoring(
        expected=expected,
        drawn=len(drawn),
        counts={each: counts[each] for each in STATUSES},
        first_failure=next(
            (
                f"{drawn[image].path}: {record.reason or record.status}"
                for image, record in latest.items()
                if record.status != "scored"
            ),
            "",
        ),
    )
    # A process with a share only might take records away that another is just adding.
    if scoring.done and shard.count == 1:
        lines = [
            json.dumps({**asdict(record), "sha256": drawn[image].sha256}) + "\n"
            for image, record in latest.items()
        ]
        folder.write(PurePosixPath(RECORDS), "".join(lines).encode(), below=folder.path)
        folder.tidy()
    return scoring
