"""Which images a page shows, by a fixed rule, and how they are embedded.

Of each category: the lowest and the highest scores, some at random, and some that failed or have
no record. Ties and random choices are decided by a hash of the id of the prompt and the image
index, so that equal runs show the same images.
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
from deepgen.eval.run.folder import ImageEntry, ImageKey
from deepgen.eval.run.layout import read_stored_image
from deepgen.eval.run.stored import StoredRun
from deepgen.images.io import read_image

PER_KIND = 2
"""Images of each kind in a category; one where there are many categories."""
MANY_CATEGORIES = 12
SIDE = 320
"""Longest side of an embedded image in pixels: sharp at the width a page shows it."""
LOSSLESS_SIDE = 128
"""Images as small as the mini's are stored losslessly: compression would show."""
QUALITY = 80
MAX_BYTES = 8_000_000
"""Limit for all images of a page together, so that it opens on a phone and can be mailed."""
LONGEST_VALUES = 160
"""Characters of a scorer's values; ``scores.jsonl`` has all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Embedded:
    """An image inside the page, or why it is not."""

    url: str | None
    """``data:``, in base64."""
    problem: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownImage:
    """One image with its record."""

    item: Item
    image_index: int
    why: str
    """Why it was chosen."""
    image: Embedded
    sources: tuple[Embedded, ...]
    score: float | None
    """Score of this image alone."""
    status: str
    reason: str
    values: str
    """What the scorer found."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gallery:
    """The images of one category."""

    category: str
    images: tuple[ShownImage, ...]
    expected: int
    """Images that the category has in all."""


class Embedder:
    """Turns image files into data URLs until the page is full."""

    def __init__(self) -> None:
        self._left = MAX_BYTES

    def __call__(
        self, path: Path | None, read: Callable[[Path], Image.Image] = read_image
    ) -> Embedded:
        """Embed one image, as ``read`` takes it from its file."""
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
    """The score of one image alone: the main metric's, or else of the first metric it counts in."""
    if record.status != "scored":
        return None
    terms = list(benchmark.score_terms(item, [record.values]))
    for metric in benchmark.metrics:
        mine = [term for term in terms if term.metric == metric.name]
        weight = sum(term.weight for term in mine)
        if weight:
            return float(sum(term.amount for term in mine) / weight)
    return None


def random_order(image: ImageKey) -> bytes:
    """Sort key of a fixed random order."""
    item, image_index = image
    return hashlib.sha256(f"{item}\0{image_index}".encode()).digest()


def describe_selection(categories: int) -> str:
    """How images were selected, in words."""
    count = "one" if categories > MANY_CATEGORIES else "two"
    return (
        f"Of each category: {count} of the lowest and {count} of the highest scores, {count} at "
        f"random of the rest, and up to {count} that failed or have no score yet. Among equals, "
        "other prompts come before more images of the same; then, as for the random ones, a hash "
        "of the prompt's id decides."
    )


def select_galleries(run: StoredRun, embed: Embedder) -> Iterator[Gallery]:
    """Select and embed the images of a run, category by category."""
    categories: dict[str, list[Item]] = {}
    for item in run.items:
        categories.setdefault(item.category, []).append(item)
    count = 1 if len(categories) > MANY_CATEGORIES else PER_KIND
    for category, items in categories.items():
        images = {
            (item.id, image_index): item for item in items for image_index in run.image_indices
        }
        selected = tuple(
            show_image(run, images[image], image[1], embed, why)
            for image, why in _select(run, images, count)
        )
        yield Gallery(category=category, images=selected, expected=len(images))


def show_image(
    run: StoredRun,
    item: Item,
    image_index: int,
    embed: Embedder,
    why: str = "",
) -> ShownImage:
    """One image of a run, with its sources and its record."""
    record = run.records.get((item.id, image_index))
    found = record.values if record else {}
    values = ", ".join(
        f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in found.items()
    )
    if len(values) > LONGEST_VALUES:
        values = f"{values[:LONGEST_VALUES]} …"
    line = run.images.get((item.id, image_index))
    return ShownImage(
        item=item,
        image_index=image_index,
        why=why,
        image=_embed_copy(run, item, line, embed),
        sources=tuple(embed(run.sources / path) for path in item.sources),
        score=image_score(run.benchmark, item, record) if record else None,
        status=record.status if record else ("not evaluated" if line else "missing"),
        reason=record.reason if record else "",
        values=values,
    )


def _embed_copy(run: StoredRun, item: Item, line: ImageEntry | None, embed: Embedder) -> Embedded:
    """One image of a prompt, which may be a part of a grid."""
    if line is None:
        return embed(None)
    # As it was scored: never the whole grid.
    return embed(
        run.folder.images / line.path,
        lambda _: read_stored_image(run, item, line),
    )


def _select(
    run: StoredRun, images: Mapping[ImageKey, Item], count: int
) -> Iterator[tuple[ImageKey, str]]:
    """Images of one category, and why each."""
    records = run.records
    shuffled = sorted(images, key=random_order)
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
            # Failed images come before those without a record; the candidates are shuffled.
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
