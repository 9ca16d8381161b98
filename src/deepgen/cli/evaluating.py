"""``deepgen eval generate`` and ``report``: the images of a benchmark, and reports of runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from deepgen.checkpoint.finding import FoundModel, find_model
from deepgen.cli.console import print_line, print_result, progress_bar
from deepgen.cli.options import MAX_SEED, DeviceChoice, Folder, Whole
from deepgen.devices import pick_device
from deepgen.errors import BenchmarkError, UsageError
from deepgen.eval.benchmark import PROMPT_STRIDE, Benchmark, GenerationRule, Item, ItemList, Preset
from deepgen.eval.fetch import locate
from deepgen.eval.registry import find_benchmark
from deepgen.locks import locked
from deepgen.outputs import check_output_folder
from deepgen.ray_cluster import check_ray

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deepgen.eval.run.folder import RunManifest


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerationFlags:
    """What decides the images of a run."""

    benchmark: Positional[Annotated[str, arg(metavar="BENCH")]]
    """Its name, as deepgen eval list shows it."""
    model: Annotated[str, arg(metavar="MODEL")] = "mini"
    """The embedded model (mini), a model folder, or a hub id with an optional @REVISION."""
    data: Folder = None
    """Folder of prompt files, instead of the fetched ones."""
    preset: Preset = "default"
    """paper: the settings of the published runs; default: the model's own."""
    limit: Whole = None
    """Only so many prompts, equally many of each category (default: all)."""
    seed: int = 0
    """Image i of prompt p uses SEED + 1000 p + i."""
    device: DeviceChoice = "auto"
    """Where to compute."""

    def inputs(self) -> dict[str, Path | str | None]:
        """What is only read, by option."""
        return {"--model": self.model, "--data": self.data}


@dataclass(frozen=True, kw_only=True, slots=True)
class Generate(GenerationFlags):
    """Generate the images of a benchmark; an interrupted run is resumed."""

    output: Annotated[Path, arg(metavar="DIR", aliases=["-o"])]
    """Folder of the run, new or to be resumed."""
    shard: Annotated[str | None, arg(metavar="R/N", help_behavior_hint="")] = None
    """Generate the R-th of N shards, from 1/N to N/N (default: by torchrun's ranks, else all)."""
    ray: Whole = None
    """Share the prompts among so many processes of a Ray cluster (extra ray); all need to see the
    same folders."""
    debug: bool = False
    """Show where an error comes from."""

    def run(self) -> None:
        """Generate what is missing; the last line counts the images of the run."""
        with locked_run(self.output, self.shard, self.inputs()):
            self.generate()
        print_result(str(self.output))

    def generate(self) -> None:
        """Generate what is missing, and count the images of the run."""
        from deepgen.eval.run.folder import RunFolder
        from deepgen.eval.run.generation import (
            choose_shard,
            generate,
            prepare_sources,
            select_items,
        )
        from deepgen.eval.run.model import image_generator, resolve_rule
        from deepgen.eval.run.planned import PlannedRun

        benchmark = find_benchmark(self.benchmark)
        shard = choose_shard(self.shard)
        if self.ray is not None:
            check_ray(self.ray)
            if shard.count > 1:
                raise UsageError("--ray shares all prompts; leave --shard and torchrun out")
        prompts = locate(benchmark, self.data)
        found = benchmark.load(prompts)
        if not 0 <= self.seed < MAX_SEED - PROMPT_STRIDE * len(found.items):
            raise ValueError(f"--seed must be from 0 to nearly 2^63, got {self.seed}")
        items = select_items(found.items, self.limit)
        model = find_model(self.model)
        rule = resolve_rule(benchmark, self.preset, model.defaults)
        sources = prepare_sources(benchmark, prompts, items, rule)
        model.check_sizes(rule.height, rule.width, [])
        model.check_texts([item.prompt for item in items])
        device = pick_device(self.device)
        run = PlannedRun(
            benchmark=benchmark,
            items=items,
            manifest=self._manifest(benchmark, items, rule, model, device),
            folder=RunFolder(self.output),
            sources=sources,
        )
        # Refuse another run's folder before the weights are loaded.
        run.folder.begin(run.manifest)
        print_prompt_notes(benchmark, found)
        mine = items[shard.rank :: shard.count]
        with progress_bar(benchmark.title, len(mine) * rule.images_per_item) as advance:
            if self.ray is not None:
                from deepgen.cli.evaluating_on_ray import generate_on_ray

                progress = generate_on_ray(
                    run, model.path, device, processes=self.ray, advance=advance
                )
            else:
                generator = image_generator(model.path, device)
                progress = generate(run, generator, shard=shard, advance=advance)
        state = "done" if progress.done else "not done: other processes generate the rest"
        print_line(f"{progress.finished} of {progress.expected} images are there, {state}")

    def _manifest(
        self,
        benchmark: Benchmark,
        items: Sequence[Item],
        rule: GenerationRule,
        model: FoundModel,
        device: str,
    ) -> RunManifest:
        """What the images depend on."""
        import torch

        from deepgen import __version__
        from deepgen.eval.run.folder import RunManifest, hash_folder, hash_items

        return RunManifest(
            benchmark=benchmark.name,
            model=self.model,
            weights_sha256=hash_folder(model.path),
            prompts_sha256=hash_items(items),
            limit=self.limit,
            base_seed=self.seed,
            rule=rule,
            settings={"preset": self.preset, "device": device},
            versions={"deepgen": __version__, "torch": torch.__version__},
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """Write the report of a run, or of the difference of two, into the first."""

    runs: Positional[Annotated[tuple[Path, ...], arg(metavar="RUN [RUN2]", help_behavior_hint="")]]
    """Folders of runs; of two, the differences are the second minus the first."""
    data: Folder = None
    """Folder of prompt files, instead of the fetched ones."""
    json: bool = False
    """Print the report as JSON instead of the paths of its files."""
    debug: bool = False
    """Show where an error comes from."""

    def run(self) -> None:
        """Write JSON, Markdown, a page with images and, of one run, CSV."""
        from deepgen.eval.report.results import to_json

        report, paths = self.write()
        if self.json:
            print_result(to_json(report).rstrip())
            return
        for path in paths:
            print_result(str(path))

    def write(self) -> tuple[dict[str, Any], Sequence[Path]]:
        """Write the report, and return it and its paths."""
        if not 1 <= len(self.runs) <= 2:
            raise BenchmarkError(f"name one run or two to compare, got {len(self.runs)}")
        from deepgen.eval.run.folder import REPORT_LOCK

        first = self.runs[0]
        # A run may be reported while it is being generated, but only once at a time.
        with locked(first, name=REPORT_LOCK) if first.is_dir() else nullcontext():
            return self._write()

    def _write(self) -> tuple[dict[str, Any], Sequence[Path]]:
        """See :meth:`write`."""
        from deepgen.eval.report.report_files import write_report
        from deepgen.eval.report.results import describe, describe_pair
        from deepgen.eval.run.scorer_identity import scorer_difference
        from deepgen.eval.run.stored import read_run

        stored = [read_run(path, self.data) for path in self.runs]
        written = datetime.now(UTC).isoformat(timespec="seconds")
        report = (
            describe(stored[0], written)
            if len(stored) == 1
            else describe_pair(stored[0], stored[1], written)
        )
        stem = "report" if len(stored) == 1 else "comparison"
        paths = write_report(report, self.runs[0], runs=stored, stem=stem)
        difference = scorer_difference(stored[0].scorer.identity, stored[-1].scorer.identity)
        if difference:
            print_line(f"warning: the runs were scored differently, with {difference}")
        for path, run in zip(self.runs, stored, strict=True):
            if not run.done:
                print_line(
                    f"warning: {path} is not done: {len(run.images)} of {run.expected} images are "
                    f"there, {len(run.records)} evaluated"
                )
        return report, paths


@contextmanager
def locked_run(
    output: Path, shard: str | None, inputs: Mapping[str, Path | str | None]
) -> Iterator[None]:
    """Check the folder of a run, and lock it in the body; processes with shards share it.

    Raises:
        FolderInUseError: Another process works on the same run.
        ValueError: The folder cannot be the output.
    """
    from deepgen.eval.run.folder import MANIFEST, RunFolder
    from deepgen.eval.run.generation import choose_shard

    shared = choose_shard(shard).count > 1
    check_output_folder(output, inputs, own=MANIFEST)
    with locked(output, shared=shared, last=RunFolder(output).tidy):
        yield


def print_prompt_notes(benchmark: Benchmark, found: ItemList) -> None:
    """What is missing of a benchmark's prompts, and what was repaired in their files."""
    if found.absent:
        print_line(
            f"warning: {benchmark.name} is incomplete here, without {', '.join(found.absent)}; "
            f"deepgen eval fetch {benchmark.name} fetches them or names their source"
        )
    for note in found.notes:
        print_line(f"note: {note}")
