"""A run as its folder has it: read, and checked by the hashes of its images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deepgen.errors import BenchmarkError
from deepgen.eval.benchmark import Benchmark, ImageRecord, Item
from deepgen.eval.fetch import locate, source_folder
from deepgen.eval.registry import find_benchmark
from deepgen.eval.run.folder import ImageEntry, ImageKey, RunFolder, RunManifest, hash_items
from deepgen.eval.run.generation import select_items
from deepgen.eval.run.planned import PlannedRun
from deepgen.eval.run.records import latest_records
from deepgen.eval.run.scorer_identity import RunScorer, read_scorer


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredRun(PlannedRun):
    """A run with its images and scores so far."""

    images: Mapping[ImageKey, ImageEntry]
    """Those that are there with the right hash, in the order of the items."""
    records: Mapping[ImageKey, ImageRecord]
    """One per scored or failed image, in the order of the items."""
    scorer: RunScorer = field(default_factory=RunScorer)
    notes: tuple[str, ...] = ()
    """What was repaired in its prompt files."""

    @property
    def done(self) -> bool:
        """Every image is there and has a record."""
        return len(self.images) == len(self.records) == self.expected


def read_run(path: Path, data: Path | None = None) -> StoredRun:
    """A run, its images checked by their hashes; records of other images do not count.

    Args:
        data: Folder of prompt files, instead of the fetched ones.

    Raises:
        BenchmarkError: The folder is not a run, or the prompts are not those of the run.
    """
    folder = RunFolder(path)
    manifest = folder.manifest()
    benchmark = find_benchmark(manifest.benchmark)
    prompts = locate(benchmark, data)
    found = benchmark.load(prompts)
    items = select_items(found.items, manifest.limit)
    check_prompts(benchmark, items, manifest, path, data)
    images = folder.finished(benchmark, manifest, items)
    return StoredRun(
        benchmark=benchmark,
        manifest=manifest,
        items=items,
        folder=folder,
        images=images,
        records=latest_records(path, images),
        sources=source_folder(benchmark, prompts, manifest.rule),
        scorer=read_scorer(path),
        notes=found.notes,
    )


def check_prompts(
    benchmark: Benchmark,
    items: Sequence[Item],
    manifest: RunManifest,
    path: Path,
    data: Path | None,
) -> None:
    """See that a run is of this benchmark and of these prompts.

    Raises:
        BenchmarkError: Of which benchmark it is, or that its prompts are others.
    """
    if manifest.benchmark != benchmark.name:
        raise BenchmarkError(
            f"{path} is a run of {manifest.benchmark}, not of {benchmark.name}; name that "
            "benchmark, or another folder"
        )
    if hash_items(items) != manifest.prompts_sha256:
        raise BenchmarkError(
            f"the prompts of {benchmark.name} {'here' if data is None else f'in {data}'} are not "
            f"those of the run {path}; name their folder with --data"
        )
