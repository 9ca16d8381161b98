"""Images in the official layout of a benchmark, from whatever model: found, listed, read.

Official scorers are lenient with names, and so is this: another suffix of images, or another
number of digits, is the same image. Where they want all images of a prompt as one grid, a grid in
place of the single images is cut.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image

from deepgen.errors import BenchmarkError, ImageError
from deepgen.eval.benchmark import Benchmark, Item
from deepgen.eval.run.folder import ImageEntry, LineWriter, RunFolder, RunManifest, hash_file
from deepgen.eval.run.generation import GRID_COLUMNS
from deepgen.eval.run.planned import PlannedRun
from deepgen.images.io import open_image, read_file, read_image
from deepgen.reading import walk

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})

_Key = tuple[str, str | int]


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageIssues:
    """How a folder of images differs from what a run expects."""

    missing: tuple[str, ...]
    """Places where an image should be."""
    extra: tuple[str, ...]
    """Images that are not part of the benchmark."""
    damaged: tuple[str, ...]
    """Files that are not images, whatever they are called."""
    odd: tuple[str, ...]
    """Images of another size than most, where all should have one size."""

    def messages(self) -> list[str]:
        """One line for each kind of issue, with its number and first name."""
        kinds = (
            (self.missing, "missing", "generate the rest, and score again"),
            (self.extra, "no part of the benchmark", "they are ignored"),
            (self.damaged, "damaged or no images", "generate them again, and score again"),
            (self.odd, "of another size than most", "they are scored as they are"),
        )
        return [
            f"images {what}: {len(names)}, {names[0]} the first; {so}"
            for names, what, so in kinds
            if names
        ]


def register_images(
    benchmark: Benchmark, items: Sequence[Item], manifest: RunManifest, folder: RunFolder
) -> None:
    """Start or resume a run over images that were generated elsewhere; none is copied.

    Args:
        items: All items of the run.
        manifest: With the folder of the images.

    Raises:
        BenchmarkError: There is no such folder, nothing of it belongs to the benchmark, or the run
            is another one.
    """
    images = Path(manifest.images or "")
    if not images.is_dir():
        raise BenchmarkError(f"there is no folder {images}; name the one that holds the images")
    files = _images_below(images)
    places = {
        (item.id, image_index): place
        for item in items
        for image_index in range(manifest.rule.images_per_item)
        if (place := _place(benchmark, item, image_index, files)) is not None
    }
    if not places:
        example = benchmark.image_path(items[0], 0)
        raise BenchmarkError(
            f"{images} holds no image of {benchmark.name}: expected names such as {example}"
        )
    folder.begin(manifest)
    known = folder.finished(benchmark, manifest, items)
    lines, hashes = LineWriter(folder, 0), dict[PurePosixPath, str]()
    for (item_id, image_index), place in places.items():
        if place not in hashes:
            hashes[place] = hash_file(images / place)
        old = known.get((item_id, image_index))
        if old is None or (old.path, old.sha256) != (str(place), hashes[place]):
            width, height = _size(images / place)
            lines.add(
                ImageEntry(
                    item=item_id,
                    image_index=image_index,
                    seed=None,
                    height=height,
                    width=width,
                    steps=None,
                    guidance_scale=None,
                    path=str(place),
                    sha256=hashes[place],
                )
            )
    whole = folder.finished(benchmark, manifest, items)
    if len(whole) == len(items) * manifest.rule.images_per_item:
        folder.close(whole.values())


def find_issues(run: PlannedRun, complete: Sequence[Item]) -> ImageIssues:
    """Compare a run's folder of images with what should be in it.

    Args:
        complete: All items of the benchmark, whose images are not extra.
    """
    benchmark, found = run.benchmark, run.finished()
    lines = list(found.values())
    damaged = sorted({line.path for line in lines if not line.height})
    sizes = Counter((line.height, line.width) for line in lines if line.height)
    usual = sizes.most_common(1)[0][0] if sizes and benchmark.task == "text-to-image" else None
    odd = [
        f"{line.path} ({line.width} x {line.height})"
        for line in lines
        if usual is not None and line.height and (line.height, line.width) != usual
    ]
    return ImageIssues(
        missing=tuple(
            str(benchmark.image_path(item, image_index))
            for item in run.items
            for image_index in run.image_indices
            if (item.id, image_index) not in found
        ),
        extra=tuple(_extra(benchmark, complete, run.image_indices, run.folder.images)),
        damaged=tuple(damaged),
        odd=tuple(odd),
    )


def read_stored_image(run: PlannedRun, item: Item, line: ImageEntry) -> Image.Image:
    """One image, cut out of its grid if need be.

    Raises:
        ImageError: The file is damaged, or too small for a grid.
    """
    image = read_image(run.folder.images / line.path)
    grid = run.benchmark.grid_path and run.benchmark.grid_path(item)
    if not grid or _key(PurePosixPath(line.path)) != _key(grid):
        return image
    rows = -(-len(run.image_indices) // GRID_COLUMNS)
    if image.width % GRID_COLUMNS or image.height % rows:
        raise ImageError(
            f"{line.path} is {image.width} x {image.height}, expected a grid of "
            f"{GRID_COLUMNS} x {rows} images of one size"
        )
    width, height = image.width // GRID_COLUMNS, image.height // rows
    row, column = divmod(line.image_index, GRID_COLUMNS)
    left, top = column * width, row * height
    return image.crop((left, top, left + width, top + height))


def _images_below(folder: Path) -> dict[_Key, PurePosixPath]:
    """Every image in a folder, by the part of its name that counts."""
    paths = (Path(entry.path) for _, entries in walk(folder) for entry in entries)
    found = (path for path in paths if path.suffix.lower() in SUFFIXES)
    relative = (PurePosixPath(path.relative_to(folder).as_posix()) for path in found)
    # Of several with one key, the first by name.
    return {_key(path): path for path in sorted(relative, reverse=True)}


def _key(path: PurePosixPath) -> _Key:
    return str(path.parent), int(path.stem) if path.stem.isdecimal() else path.stem


def _place(
    benchmark: Benchmark, item: Item, image_index: int, files: dict[_Key, PurePosixPath]
) -> PurePosixPath | None:
    """Where an image is: in a file of its own, or in the grid of its prompt."""
    found = (files.get(_key(path)) for path in _alone(benchmark, item, image_index))
    alone = next((place for place in found if place is not None), None)
    if alone is None and benchmark.grid_path:
        return files.get(_key(benchmark.grid_path(item)))
    return alone


def _alone(benchmark: Benchmark, item: Item, image_index: int) -> list[PurePosixPath]:
    """Where an image may have a file of its own, the official place first."""
    other = [benchmark.other_path(item, image_index)] if benchmark.other_path else []
    return [benchmark.image_path(item, image_index), *other]


def _extra(
    benchmark: Benchmark, complete: Sequence[Item], image_indices: Iterable[int], images: Path
) -> list[str]:
    """Images that are neither an item's nor what the official scorer wants beside them."""
    expected = set()
    for item in complete:
        expected |= {
            _key(path)
            for image_index in image_indices
            for path in _alone(benchmark, item, image_index)
        }
        expected |= {_key(path) for path in benchmark.sidecar_files(item)}
        expected |= {_key(path) for path in item.sources}
        if benchmark.grid_path:
            expected.add(_key(benchmark.grid_path(item)))
    found = _images_below(images)
    return sorted(str(path) for key, path in found.items() if key not in expected)


def _size(path: Path) -> tuple[int, int]:
    """(width, height) from the header; zeros where it is not an image."""
    try:
        with open_image(read_file(path, name=str(path))) as image:
            return image.size
    except ImageError:
        return 0, 0
