"""A run as a whole: its prompts, what decides its images, and where its files are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from deepgen.eval.benchmark import Benchmark, Item
from deepgen.eval.run.folder import ImageEntry, ImageKey, RunFolder, RunManifest


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedRun:
    """A run, whether or not anything of it exists."""

    benchmark: Benchmark
    items: tuple[Item, ...]
    """All prompts of the run, in any order."""
    manifest: RunManifest
    folder: RunFolder
    sources: Path
    """The folder below which images to edit lie."""

    @property
    def ordered(self) -> list[Item]:
        """The prompts in the order of the benchmark, of which processes take shards."""
        return sorted(self.items, key=lambda item: item.number)

    @property
    def image_indices(self) -> range:
        """Numbers of the images of one prompt."""
        return range(self.manifest.rule.images_per_item)

    @property
    def expected(self) -> int:
        """How many images belong to the run."""
        return len(self.items) * len(self.image_indices)

    def finished(self, items: Iterable[Item] | None = None) -> dict[ImageKey, ImageEntry]:
        """Entries whose image is there with their hash, of all prompts or of some."""
        chosen = self.ordered if items is None else list(items)
        return self.folder.finished(self.benchmark, self.manifest, chosen)
