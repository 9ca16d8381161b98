"""Which pictures a page shows, by a rule that nobody can bend, and how they get into it.

Of each category: the lowest and the highest scores, some at random, and what failed or is not
judged. Ties and chance are decided by a hash of the prompt's id and the copy, so that equal runs
show the same pictures.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from deepgen.errors import ImageError
from deepgen.eval.benchmark import Benchmark, ImageRecord, Item
from deepgen.eval.report.results import StoredRun
from deepgen.eval.run.folder import Drawn, Picture
from deepgen.eval.run.layout import read_picture
from deepgen.images.io import read_image

PER_KIND = 2
"""Pictures of each kind in a category; one where there are many categories."""
MANY_CATEGORIES = 12
SIDE = 320
"""Longest side of an embedded picture in pixels: sharp at the width a page shows it."""
LOSSLESS_SIDE = 128
"""Pictures as small as the mini's are kept as they are: compression would show."""
QUALITY = 80
MAX_BYTES = 8_000_000
"""Of all pictures in a page, so that it opens on a phone and fits into a mail."""
LONGEST_VALUES = 160
"""Characters of a scorer's values; ``scores.jsonl`` has all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Embedded:
    """A picture inside the page, or why it is not."""

    url: str | None
    """``data:``, in base64."""
    problem: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exhibit:
    """One picture with all that is known of it."""

    item: Item
    copy: int
    why: str
    """Why it was chosen."""
    picture: Embedded
    sources: tuple[Embedded, ...]
    score: float | None
    """Of this picture alone."""
    status: str
    reason: str
    values: str
    """What the scorer found."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """The pictures of one category."""

    category: str
    exhibits: tuple[Exhibit, ...]
    expected: int
    """Pictures that the category has in all."""


class Embedder:
    """Turns picture files into data URLs until the page is full."""

    def __init__(self) -> None:
        self._left = MAX_BYTES

    def __call__(
        self, path: Path | None, read: Callable[[Path], Image.Image] = read_image
    ) -> Embedded:
        """Embed one picture, as ``read`` finds it in its file."""
        if path is None or not path.is_file():
            return Embedded(url=None, problem="the picture is missing")
        try:
            content = _compressed(read(path))
        except ImageError:
            return Embedded(url=None, problem="the picture cannot be read")
        text = base64.b64encode(content).decode()
        if len(text) > self._left:
            limit = MAX_BYTES // 1_000_000
            return Embedded(url=None, problem=f"left out: a page holds {limit} MB of pictures")
        self._left -= len(text)
        return Embedded(url=f"data:image/webp;base64,{text}")


def _compressed(image: Image.Image) -> bytes:
    small = max(image.size) <= LOSSLESS_SIDE
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    image.save(content, "WEBP", quality=QUALITY, lossless=small)
    return content.getvalue()


def picture_score(benchmark: Benchmark, item: Item, record: ImageRecord) -> float | None:
    """The score of one picture alone: the headline's, or else of the first metric it counts in."""
    if record.status != "scored":
        return None
    shares = list(benchmark.contribute(item, [record.values]))
    for metric in benchmark.metrics:
        mine = [share for share in shares if share.metric == metric.name]
        weight = sum(share.weight for share in mine)
        if weight:
            return float(sum(share.amount for share in mine) / weight)
    return None


def chance(picture: Picture) -> bytes:
    """Where a picture stands in an order without meaning."""
    item, copy = picture
    return hashlib.sha256(f"{item}\0{copy}".encode()).digest()


def describe_rule(categories: int) -> str:
    """How pictures were chosen, in words."""
    count = "one" if categories > MANY_CATEGORIES else "two"
    return (
        f"Of each category: {count} of the lowest and {count} of the highest scores, {count} at "
        f"random of the rest, and up to {count} that failed, are not judged or are not there. Of "
        "equal ones, other prompts come before more pictures of the same; then, as for chance, a "
        "hash of the prompt's id decides."
    )


def hang(run: StoredRun, embed: Embedder) -> Iterator[Room]:
    """Choose and embed the pictures of a run, category by category."""
    categories: dict[str, list[Item]] = {}
    for item in run.items:
        categories.setdefault(item.category, []).append(item)
    count = 1 if len(categories) > MANY_CATEGORIES else PER_KIND
    records = {(record.item, record.copy): record for record in run.records}
    for category, items in categories.items():
        copies = range(run.manifest.rule.images_per_item)
        pictures = {(item.id, copy): item for item in items for copy in copies}
        exhibits = tuple(
            exhibit(run, pictures[picture], picture[1], records.get(picture), embed, why)
            for picture, why in _choose(run, pictures, records, count)
        )
        yield Room(category=category, exhibits=exhibits, expected=len(pictures))


def exhibit(
    run: StoredRun,
    item: Item,
    copy: int,
    record: ImageRecord | None,
    embed: Embedder,
    why: str,
) -> Exhibit:
    """One picture of a run, with its sources and what was said of it."""
    found = record.values if record else {}
    values = ", ".join(
        f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in found.items()
    )
    if len(values) > LONGEST_VALUES:
        values = f"{values[:LONGEST_VALUES]} …"
    line = run.pictures.get((item.id, copy))
    return Exhibit(
        item=item,
        copy=copy,
        why=why,
        picture=_embed_copy(run, item, line, embed),
        sources=tuple(embed(run.sources / path) for path in item.sources),
        score=picture_score(run.benchmark, item, record) if record else None,
        status=record.status if record else ("not judged" if line else "not drawn"),
        reason=record.reason if record else "",
        values=values,
    )


def _embed_copy(run: StoredRun, item: Item, line: Drawn | None, embed: Embedder) -> Embedded:
    """One copy of a prompt, which others may have drawn as a part of a grid."""
    if line is None:
        return embed(None)
    # What was judged is what is shown: never the whole grid.
    return embed(
        run.folder.pictures / line.path,
        lambda _: read_picture(run.benchmark, item, line, run.manifest, run.folder),
    )


def _choose(
    run: StoredRun,
    pictures: Mapping[Picture, Item],
    records: Mapping[Picture, ImageRecord],
    count: int,
) -> Iterator[tuple[Picture, str]]:
    """Pictures of one category, and why each."""
    shuffled = sorted(pictures, key=chance)
    scores = {
        picture: score
        for picture in shuffled
        if picture in records
        and (score := picture_score(run.benchmark, pictures[picture], records[picture])) is not None
    }
    scored, without = list(scores), [picture for picture in shuffled if picture not in scores]
    chosen: list[Picture] = []
    for why, candidates, sign in (
        ("lowest", scored, 1),
        ("highest", scored, -1),
        ("random", scored, 0),
        ("", without, 0),
    ):
        for _ in range(count):
            shown = {item for item, _ in chosen}
            # What failed comes before what nobody looked at; the candidates come shuffled.
            ranks = {
                picture: (
                    sign * scores.get(picture, 0.0),
                    picture not in records,
                    picture[0] in shown,
                )
                for picture in candidates
                if picture not in chosen
            }
            if ranks:
                chosen.append(min(ranks, key=ranks.__getitem__))
                yield chosen[-1], why
