"""Drawing the images of a benchmark: any number of processes, any order, and killed at any time.

An image depends on its prompt, its own seed and the settings of the run, never on what was drawn
before it or beside it. So each is drawn by itself, whoever does it gets the same file, and what is
missing after a crash is simply drawn.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image

from deepgen.errors import BenchmarkError
from deepgen.eval.benchmark import Benchmark, Item, image_seed
from deepgen.eval.run.folder import Drawn, ImageKey, LineWriter, Manifest, RunFolder
from deepgen.images.io import read_image

GRID_COLUMNS = 2


Draw = Callable[
    [str, Sequence[Image.Image], int | None, int | None, int, int | None, float | None], Image.Image
]
"""A model: from a prompt, the images to edit, height, width, seed, steps and guidance scale to
one image. Equal arguments give equal pixels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """Which items a process draws: every ``count``-th one, from ``rank``."""

    rank: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.count:
            raise ValueError(f"there is no process {self.rank} of {self.count}, counted from 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """What is there of a run."""

    finished: int
    expected: int

    @property
    def done(self) -> bool:
        """Every image is there, with the hash that its line names."""
        return self.finished == self.expected


def select_items(items: Sequence[Item], limit: int | None) -> tuple[Item, ...]:
    """A fixed subset with equal shares of all categories, in the order of the benchmark.

    Within a category the hash of the id decides, so that a longer subset holds a shorter one.
    """
    if limit is None or limit >= len(items):
        return tuple(items)
    if limit < 1:
        raise ValueError(f"at least 1 item must be drawn, got a limit of {limit}")
    by_category: dict[str, list[Item]] = {}
    for item in sorted(items, key=lambda each: hashlib.sha256(each.id.encode()).digest()):
        by_category.setdefault(item.category, []).append(item)
    ranked = sorted(
        (place, category, item.number)
        for category, members in by_category.items()
        for place, item in enumerate(members)
    )
    chosen = {number for _, _, number in ranked[:limit]}
    return tuple(item for item in items if item.number in chosen)


def generate(
    benchmark: Benchmark,
    items: Sequence[Item],
    manifest: Manifest,
    draw: Draw,
    *,
    folder: RunFolder,
    sources: Path,
    shard: Shard | None = None,
    advance: Callable[[], None] = lambda: None,
) -> Progress:
    """Draw what is missing of this process's share, and see whether the run is done with it.

    Args:
        items: All items of the run, in any order.
        sources: The folder that items name their images in.
        shard: The share; None is all.
        advance: Called once per image of the share, drawn now or before.

    Returns:
        What is there of the whole run, all processes together.

    Raises:
        BenchmarkError: The folder is of another run, or a source is missing.
        ImageError: A source cannot be read.
    """
    shard = shard or Shard()
    items = sorted(items, key=lambda item: item.number)
    mine = items[shard.rank :: shard.count]
    check_sources(mine, sources)
    folder.begin(manifest)
    there = folder.finished(benchmark, manifest, mine)
    lines = LineWriter(folder, shard.rank)
    for item in mine:
        images: list[Image.Image] | None = None
        for copy in range(manifest.rule.images_per_item):
            if (item.id, copy) not in there:
                images = _sources(item, manifest, sources) if images is None else images
                lines.add(_draw_one(benchmark, item, copy, manifest, draw, folder, images))
            advance()
        _complete(benchmark, item, manifest, folder, sources)
    return check_run(benchmark, items, manifest, folder)


def check_run(
    benchmark: Benchmark, items: Sequence[Item], manifest: Manifest, folder: RunFolder
) -> Progress:
    """See what is there by hashing it, and close the run if that is all."""
    items = sorted(items, key=lambda item: item.number)
    there: dict[ImageKey, Drawn] = folder.finished(benchmark, manifest, items)
    progress = Progress(finished=len(there), expected=len(items) * manifest.rule.images_per_item)
    if progress.done and all(
        (folder.images / path).is_file() for item in items for path in _beside(benchmark, item)
    ):
        folder.close(there.values())
    return progress


def check_sources(items: Sequence[Item], sources: Path) -> None:
    """See that every image to edit is there, before anything is drawn.

    Raises:
        BenchmarkError: How many are missing, and which is the first.
    """
    missing = [
        sources / path for item in items for path in item.sources if not (sources / path).is_file()
    ]
    if missing:
        raise BenchmarkError(
            f"{len(missing)} images to edit are missing, {missing[0]} the first; put them beside "
            "the prompts, or name the folder that has both with --data"
        )


def _draw_one(
    benchmark: Benchmark,
    item: Item,
    copy: int,
    manifest: Manifest,
    draw: Draw,
    folder: RunFolder,
    images: Sequence[Image.Image],
) -> Drawn:
    assert manifest.base_seed is not None, "whoever draws knows the seeds"
    rule, seed = manifest.rule, image_seed(manifest.base_seed, item, copy)
    image = draw(
        item.prompt, images, rule.height, rule.width, seed, rule.steps, rule.guidance_scale
    )
    path, content = benchmark.image_path(item, copy), _png(image)
    # First the image, then its line: a line never speaks of what is not there yet.
    folder.write(path, content)
    return Drawn(
        item=item.id,
        copy=copy,
        seed=seed,
        height=image.height,
        width=image.width,
        steps=rule.steps,
        guidance_scale=rule.guidance_scale,
        path=str(path),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def _sources(item: Item, manifest: Manifest, folder: Path) -> list[Image.Image]:
    """Images to edit, squashed where the rule says so."""
    rule = manifest.rule
    images = [read_image(folder / path) for path in item.sources]
    if not rule.squash_sources or rule.height is None or rule.width is None:
        return images
    return [image.resize((rule.width, rule.height), Image.Resampling.BICUBIC) for image in images]


def _beside(benchmark: Benchmark, item: Item) -> list[PurePosixPath]:
    """Files that the official scorer wants besides the images."""
    grid = [benchmark.grid_path(item)] if benchmark.grid_path else []
    return [*benchmark.companions(item), *grid]


def _complete(
    benchmark: Benchmark, item: Item, manifest: Manifest, folder: RunFolder, sources: Path
) -> None:
    """Write what the official scorer wants beside; it is always the same, so it has no lines."""
    for path, content in benchmark.companions(item).items():
        if isinstance(content, str):
            folder.write(path, content.encode())
        elif path.suffix == content.suffix:
            folder.write(path, (sources / content).read_bytes())
        else:
            folder.write(path, _png(read_image(sources / content)))
    if benchmark.grid_path:
        copies = range(manifest.rule.images_per_item)
        tiles = [read_image(folder.images / benchmark.image_path(item, copy)) for copy in copies]
        folder.write(benchmark.grid_path(item), _png(_grid(tiles)))


def _grid(tiles: Sequence[Image.Image]) -> Image.Image:
    """Images of one size, row by row."""
    width, height = tiles[0].size
    rows = -(-len(tiles) // GRID_COLUMNS)
    grid = Image.new("RGB", (GRID_COLUMNS * width, rows * height))
    for number, tile in enumerate(tiles):
        row, column = divmod(number, GRID_COLUMNS)
        grid.paste(tile, (column * width, row * height))
    return grid


def _png(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, format="PNG")
    return content.getvalue()
