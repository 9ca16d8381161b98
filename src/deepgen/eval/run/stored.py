"""A run as its folder has it: read, and checked by the hashes of its images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deepgen.errors import BenchmarkError
from deepgen.eval.benchmark import Benchmark, ImageRecord, Item
from deepgen.eval.fetch import locate, source_folder
from deepgen.eval.registry import find_benchmark
from deepgen.eval.run.folder import Drawn, ImageKey, Manifest, RunFolder, hash_items
from deepgen.eval.run.generation import select_items
from deepgen.eval.run.judged_by import read_judge
from deepgen.eval.run.records import latest_records


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredRun:
    """A run as its folder tells it."""

    benchmark: Benchmark
    manifest: Manifest
    items: tuple[Item, ...]
    """All that were to be drawn."""
    folder: RunFolder
    """Where its files lie."""
    images: Mapping[ImageKey, Drawn]
    """Those that are there, whole, in the order of the items."""
    records: Mapping[ImageKey, ImageRecord]
    """One per judged image, in the order of the items."""
    sources: Path
    """The folder below which images to edit lie."""
    judged_by: Mapping[str, str] = field(default_factory=dict)
    """Everything that tells its scorer apart; empty where nothing was scored yet."""
    notes: tuple[str, ...] = ()
    """What was mended in the files of its prompts."""

    @property
    def drawn(self) -> int:
        """How many images are there."""
        return len(self.images)

    @property
    def expected(self) -> int:
        """How many images belong to the run."""
        return len(self.items) * self.manifest.rule.images_per_item

    @property
    def done(self) -> bool:
        """Every image is there, and was judged or failed to be."""
        return self.drawn == len(self.records) == self.expected


def read_run(path: Path, data: Path | None = None) -> StoredRun:
    """A run, its images checked by their hashes; records of other images do not count.

    Args:
        data: Folder of prompt files, instead of the fetched ones.

    Raises:
        BenchmarkError: The folder is no run, or the prompts are not those of the run.
    """
    folder = RunFolder(path)
    manifest = folder.manifest()
    benchmark = find_benchmark(manifest.benchmark)
    prompts = locate(benchmark, data)
    found = benchmark.load(prompts)
    items = select_items(found.items, manifest.limit)
    if hash_items(items) != manifest.prompts_sha256:
        raise BenchmarkError(
            f"the prompts of {benchmark.name} are not those that {path} was drawn from; name their "
            "folder with --data"
        )
    drawn = folder.finished(benchmark, manifest, items)
    return StoredRun(
        benchmark=benchmark,
        manifest=manifest,
        items=items,
        folder=folder,
        images=drawn,
        records=latest_records(path, drawn),
        sources=source_folder(benchmark, prompts, manifest.rule),
        judged_by=read_judge(path),
        notes=found.notes,
    )
