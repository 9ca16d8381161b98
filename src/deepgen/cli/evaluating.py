"""``deepgen eval generate`` and ``report``: drawing a benchmark, and telling of a run."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from deepgen.checkpoint.finding import FoundModel, find_model
from deepgen.cli.console import print_line, print_result, progress_bar
from deepgen.cli.options import MAX_SEED, DeviceChoice, Folder, Whole
from deepgen.devices import local_device, pick_device
from deepgen.errors import BenchmarkError
from deepgen.eval.benchmark import PROMPT_STRIDE, Benchmark, GenerationRule, Item, ItemList, Preset
from deepgen.eval.fetch import locate, source_folder
from deepgen.eval.registry import find_benchmark

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

    from deepgen.eval.run.generation import Shard


@dataclass(frozen=True, kw_only=True, slots=True)
class Generate:
    """Draw the images of a benchmark; a run that was interrupted goes on."""

    benchmark: Positional[Annotated[str, arg(metavar="BENCH")]]
    """Its name, as deepgen eval list shows it."""
    output: Annotated[Path, arg(metavar="DIR")]
    """Folder of the run, new or to be gone on with."""
    model: Annotated[str, arg(metavar="MODEL")] = "mini"
    """The embedded model (mini), a model folder, or a hub id with an optional @REVISION."""
    data: Folder = None
    """Folder of prompt files, instead of the fetched ones."""
    preset: Preset = "default"
    """The model's own settings, or those of the published runs."""
    limit: Whole = None
    """Draw so many prompts only, equally many of each category (default: all)."""
    shard: Annotated[str | None, arg(metavar="R/N", help_behavior_hint="")] = None
    """Draw the R-th of N shares, from 1/N to N/N (default: as torchrun says, else all)."""
    seed: int = 0
    """Image i of prompt p uses SEED + 1000 p + i."""
    device: DeviceChoice = "auto"
    """Where to compute."""
    debug: bool = False
    """Show where an error comes from."""

    def run(self) -> None:
        """Draw what is missing; the last line says how much of the run is there."""
        self.draw()
        print_result(str(self.output))

    def draw(self) -> None:
        """Draw what is missing, and tell how much of the run is there."""
        from deepgen.eval.run.folder import RunFolder
        from deepgen.eval.run.generation import check_sources, generate, select_items

        benchmark = find_benchmark(self.benchmark)
        shard = shard_of(self.shard)
        prompts = locate(benchmark, self.data)
        found = benchmark.load(prompts)
        complete = found.items
        if not 0 <= self.seed < MAX_SEED - PROMPT_STRIDE * len(complete):
            raise ValueError(f"--seed must be from 0 to nearly 2^63, got {self.seed}")
        items = select_items(complete, self.limit)
        model = find_model(self.model)
        rule = _resolved(benchmark, self.preset, model)
        sources = source_folder(benchmark, prompts, rule)
        if benchmark.draw_sources is not None:
            benchmark.draw_sources(sources, items, rule)
        check_sources(items, sources)
        model.check_sizes(rule.height, rule.width, [])
        model.check_texts([item.prompt for item in items])
        draw, manifest = self._prepare(benchmark, items, rule, model)
        tell_of_prompts(benchmark, found)
        share = items[shard.rank :: shard.count]
        with progress_bar(benchmark.title, len(share) * rule.images_per_item) as advance:
            progress = generate(
                benchmark,
                items,
                manifest,
                draw,
                folder=RunFolder(self.output),
                sources=sources,
                shard=shard,
                advance=advance,
            )
        state = "done" if progress.done else "not done: other processes have to draw the rest"
        print_line(f"{progress.finished} of {progress.expected} images are there, {state}")

    def _prepare(
        self, benchmark: Benchmark, items: Sequence[Item], rule: GenerationRule, model: FoundModel
    ) -> tuple[Any, Any]:
        """The model as a callable, and what the images depend on."""
        import torch

        from deepgen import __version__
        from deepgen.eval.run.folder import Manifest, RunFolder, hash_folder, hash_items

        device = pick_device(self.device)
        manifest = Manifest(
            benchmark=benchmark.name,
            model=self.model,
            weights_sha256=hash_folder(model.path),
            prompts_sha256=hash_items(items),
            limit=self.limit,
            base_seed=self.seed,
            rule=rule,
            how={"preset": self.preset, "device": device},
            versions={"deepgen": __version__, "torch": torch.__version__},
        )
        # Refuse another run's folder before the weights are loaded.
        RunFolder(self.output).begin(manifest)
        # Loaded with the first image: a run that has all of them needs no model.
        pipe = cache(partial(load_pipeline, model, device))
        return lambda *arguments: draw_one(pipe(), *arguments), manifest


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """Write what is known of a run, or of the difference of two, beside the first."""

    runs: Positional[Annotated[tuple[Path, ...], arg(metavar="RUN [RUN2]", help_behavior_hint="")]]
    """Folders of runs; of two, the differences are the second minus the first."""
    data: Folder = None
    """Folder of prompt files, instead of the fetched ones."""
    json: bool = False
    """Print the report as JSON instead of where it was written."""
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
        """Write the report, and return it and where it is."""
        from deepgen.eval.report.report_files import write_report
        from deepgen.eval.report.results import describe, describe_pair
        from deepgen.eval.run.judged_by import unlike
        from deepgen.eval.run.stored import read_run

        if not 1 <= len(self.runs) <= 2:
            raise BenchmarkError(f"name one run or two to compare, got {len(self.runs)}")
        stored = [read_run(path, self.data) for path in self.runs]
        written = datetime.now(UTC).isoformat(timespec="seconds")
        report = (
            describe(stored[0], written)
            if len(stored) == 1
            else describe_pair(stored[0], stored[1], written)
        )
        stem = "report" if len(stored) == 1 else "comparison"
        paths = write_report(report, self.runs[0], runs=stored, stem=stem)
        different = unlike(stored[0].judged_by, stored[-1].judged_by)
        if different:
            print_line(f"warning: the runs were scored differently, with {different}")
        for path, run in zip(self.runs, stored, strict=True):
            if not run.done:
                print_line(
                    f"warning: {path} is not done: {run.drawn} of {run.expected} images are "
                    f"drawn, {len(run.records)} judged"
                )
        return report, paths


def tell_of_prompts(benchmark: Benchmark, found: ItemList) -> None:
    """What is missing of a benchmark's prompts, and what was mended in their files."""
    if found.absent:
        print_line(
            f"warning: {benchmark.name} is here in part only, without {', '.join(found.absent)}; "
            f"deepgen eval fetch {benchmark.name} gets them or says where they are"
        )
    for note in found.notes:
        print_line(f"note: {note}")


def load_pipeline(model: FoundModel, device: str) -> Any:
    """The pipeline on the GPU that torchrun gave this process, or on the one there is."""
    from deepgen.pipeline.pipeline import DeepGenPipeline

    pipe = DeepGenPipeline.from_pretrained(model.path, device=local_device(device))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw_one(
    pipe: Any,
    prompt: str,
    images: Sequence[Image.Image],
    height: int | None,
    width: int | None,
    seed: int,
    steps: int | None,
    guidance_scale: float | None,
) -> Image.Image:
    """One image, by a call of its own: its seed alone makes it again."""
    image: Image.Image = pipe(
        prompt,
        list(images) or None,
        height=height,
        width=width,
        num_inference_steps=steps,
        guidance_scale=guidance_scale,
        seed=seed,
    ).images[0]
    return image


def _resolved(benchmark: Benchmark, preset: Preset, model: FoundModel) -> GenerationRule:
    """The rule with the model's own steps and guidance, so that the run says which they were.

    Its own size too, where images to edit are drawn for it.
    """
    rule, own = benchmark.generation[preset], model.defaults
    if benchmark.draw_sources is not None and rule.height is None:
        rule = replace(rule, height=own.height, width=own.width)
    return replace(
        rule,
        steps=own.num_inference_steps if rule.steps is None else rule.steps,
        guidance_scale=own.guidance_scale if rule.guidance_scale is None else rule.guidance_scale,
    )


def shard_of(value: str | None) -> Shard:
    """The share that was named, or that torchrun gives this process.

    Raises:
        BenchmarkError: There is no such share.
    """
    from deepgen.eval.run.generation import Shard

    if value is None:
        rank, count = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
        return Shard(rank=int(rank), count=int(count))
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", value)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise BenchmarkError(f"--shard {value}: expected R/N from 1/N to N/N, such as 1/8")
    return Shard(rank=int(match[1]) - 1, count=int(match[2]))
