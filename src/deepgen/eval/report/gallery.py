"""Which images a page shows, by a rule that nobody can bend, and how they get into it.

Of each category: the lowest and the highest scores, some at random, and what failed or is not
judged. Ties and chance are decided by a hash of the prompt's id and the copy, so that equal runs
show the same images.
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
from deepgen.eval.run.folder import Drawn, ImageKey
from deepgen.eval.run.layout import read_stored_image
from deepgen.eval.run.stored import StoredRun
from deepgen.images.io import read_image

PER_KIND = 2
"""Images of each kind in a category; one where there are many categories."""
MANY_CATEGORIES = 12
SIDE = 320
"""Longest side of an embedded image in pixels: sharp at the width a page shows it."""
LOSSLESS_SIDE = 128
"""Images as small as the mini's are kept as they are: compression would show."""
QUALITY = 80
MAX_BYTES = 8_000_000
"""Of all images in a page, so that it opens on a phone and fits into a mail."""
LONGEST_VALUES = 160
"""Characters of a scorer's values; ``scores.jsonl`` has all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Embedded:
    """An image inside the page, or why it is not."""

    url: str | None
    """``data:``, in base64."""
    problem: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exhibit:
    """One image with all that is known of it."""

    item: Item
    copy: int
    why: str
    """Why it was chosen."""
    image: Embedded
    sources: tuple[Embedded, ...]
    score: float | None
    """Of this image alone."""
    status: str
    reason: str
    values: str
    """What the scorer found."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """The images of one category."""

    category: str
    exhibits: tuple[Exhibit, ...]
    expected: int
    """Images that the category has in all."""


class Embedder:
    """Turns image files into data URLs until the page is full."""

    def __init__(self) -> None:
        self._left = MAX_BYTES

    def __call__(
        self, path: Path | None, read: Callable[[Path], Image.Image] = read_image
    ) -> Embedded:
        """Embed one image, as ``read`` finds it in its file."""
        if path is None or not path.is_file():
            return Embedded(url=None, problem="the image is missing")
        try:
            content = _compressed(read(path))
        except ImageError:
            return Embedded(url=None, problem="the image cannot be read")
        text = base64.b64encode(content).decode()
        if len(text) > self._left:
            limit = MAX_BYTES // 1_000_000
            return Embedded(url=None, problem=f"left out: a page holds {limit} MB of images")
        self._left -= len(text)
        return Embedded(url=f"data:image/webp;base64,{text}")


def _compressed(image: Image.Image) -> bytes:
    small = max(image.size) <= LOSSLESS_SIDE
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    image.save(content, "WEBP", quality=QUALITY, lossless=small)
    return content.getvalue()


def image_score(benchmark: Benchmark, item: Item, record: ImageRecord) -> float | None:
    """The score of one image alone: the headline's, or else of the first metric it counts in."""
    if record.status != "scored":
        return None
    shares = list(benchmark.contribute(item, [record.values]))
    for metric in benchmark.metrics:
        mine = [share for share in shares if share.metric == metric.name]
        weight = sum(share.weight for share in mine)
        if weight:
            return float(sum(share.amount for share in mine) / weight)
    return None


def chance(image: ImageKey) -> bytes:
    """Where an image stands in an order without meaning."""
    item, copy = image
    return hashlib.sha256(f"{item}\0{copy}".encode()).digest()


def describe_rule(categories: int) -> str:
    """How images were chosen, in words."""
    count = "one" if categories > MANY_CATEGORIES else "two"
    return (
        f"Of each category: {count} of the lowest and {count} of the highest scores, {count} at "
        f"random of the rest, and up to {count} that failed, are not judged or are not there. Of "
        "equal ones, other prompts come before more images of the same; then, as for chance, a "
        "hash of the prompt's id decides."
    )


def hang(run: StoredRun, embed: Embedder) -> Iterator[Room]:
    """Choose and embed the images of a run, category by category."""
    categories: dict[str, list[Item]] = {}
    for item in run.items:
        categories.setdefault(item.category, []).append(item)
    count = 1 if len(categories) > MANY_CATEGORIES else PER_KIND
    records = run.records
    for category, items in categories.items():
        copies = range(run.manifest.rule.images_per_item)
        images = {(item.id, copy): item for item in items for copy in copies}
        exhibits = tuple(
            exhibit(run, images[image], image[1], records.get(image), embed, why)
            for image, why in _choose(run, images, records, count)
        )
        yield Room(category=category, exhibits=exhibits, expected=len(images))


def exhibit(
    run: StoredRun,
    item: Item,
    copy: int,
    record: ImageRecord | None,
    embed: Embedder,
    why: str,
) -> Exhibit:
    """One image of a run, with its sources and what was said of it."""
    found = record.values if record else {}
    values = ", ".join(
        f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in found.items()
    )
    if len(values) > LONGEST_VALUES:
        values = f"{values[:LONGEST_VALUES]} …"
    line = run.images.get((item.id, copy))
    return Exhibit(
        item=item,
        copy=copy,
        why=why,
        image=_embed_copy(run, item, line, embed),
        sources=tuple(embed(run.sources / path) for path in item.sources),
        score=image_score(run.benchmark, item, record) if record else None,
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
        run.folder.images / line.path,
        lambda _: read_stored_image(run.benchmark, item, line, run.manifest, run.folder),
    )


def _choose(
    run: StoredRun,
    images: Mapping[ImageKey, Item],
    records: Mapping[ImageKey, ImageRecord],
    count: int,
) -> Iterator[tuple[ImageKey, str]]:
    """Images of one category, and why each."""
    shuffled = sorted(images, key=chance)
    scores = {
        image: score
        for image in shuffled
        if image in records
        and (score := image_score(run.benchmark, images[image], records[image])) is not None
    }
    scored, without = list(scores), [image for image in shuffled if image not in scores]
    chosen: list[ImageKey] = []
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
                image: (
                    sign * scores.get(image, 0.0),
                    image not in records,
                    image[0] in shown,
                )
                for image in candidates
                if image not in chosen
            }
            if ranks:
                chosen.append(min(ranks, key=ranks.__getitem__))
                yield chosen[-1], why
