"""``deepgen eval score`` and ``run``: scoring the images of a benchmark, from whatever model."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from deepgen.cli.console import print_line, print_result, progress_bar
from deepgen.cli.evaluating import (
    Generate,
    GenerationFlags,
    Report,
    locked_run,
    print_prompt_notes,
)
from deepgen.cli.options import DeviceChoice, File, Folder, OutputFolder, Text, Whole
from deepgen.devices import local_device, pick_device
from deepgen.errors import BenchmarkError
from deepgen.eval.benchmark import Benchmark, Item
from deepgen.eval.fetch import locate
from deepgen.eval.registry import create_scorer, find_benchmark
from deepgen.reading import parse_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deepgen.eval.run.folder import RunFolder, RunManifest
    from deepgen.eval.run.scoring import Scoring
    from deepgen.eval.scorer import ImageScorer

UNKNOWN = "unknown"

INCOMPLETE = 3
"""Exit code of a run that is not scored in full, or of which no image could be scored."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScorerFlags:
    """Judge, detector, VQA model or OCR engine; each benchmark takes what it needs."""

    judge_url: Text = None
    """OpenAI-compatible server of the judge, such as http://localhost:8000/v1; its key comes from
    the environment variable DEEPGEN_JUDGE_KEY. Or scripted:FILE, for trying a run."""
    judge_model: Text = None
    """The judge, as its server calls it."""
    judge_concurrency: Annotated[int, arg(metavar="INT")] = 16
    """Requests in flight at any time."""
    judge_parameters: Text = None
    """JSON object for the judge's server, in addition to or instead of {"temperature": 0};
    null removes one."""
    judge_timeout: Annotated[float, arg(metavar="SECONDS")] = 90.0
    """How long one request may take."""
    cache: File = None
    """File of the judge's replies, for several runs (default: one in the run)."""
    official: File = None
    """Folder of the official repository's files (default: as fetched)."""
    paraphrased_prompts: bool = False
    """Give the judge our paraphrases where the official prompts are not at hand; such scores are
    not comparable with published ones."""
    worker_url: Text = None
    """GenEval, DPG-Bench, CVTG-2K: server of a detector, VQA model or OCR engine in an environment
    of its own."""
    detector: Text = None
    """GenEval: folder or hub id of an object detector, or a .jsonl file of stored detections
    (default: a Mask2Former of the hub)."""
    clip: Text = None
    """GenEval and CVTG-2K: folder or hub id of a CLIP (default: OpenAI's of the hub); for CVTG-2K
    none leaves CLIPScore out."""
    vqa: Text = None
    """DPG-Bench: folder or hub id of a model that answers questions about images (default: a
    BLIP of the hub)."""
    ocr: Text = None
    """CVTG-2K: OCR engine (default: rapidocr, the only one)."""

    def create(self, benchmark: Benchmark, run: Path, device: DeviceChoice) -> ImageScorer:
        """The benchmark's scorer."""
        from deepgen.eval.run.folder import REPLIES
        from deepgen.eval.scorer import ScoringOptions

        options = ScoringOptions(
            judge_url=self.judge_url,
            judge_model=self.judge_model,
            judge_concurrency=self.judge_concurrency,
            judge_parameters=_object(self.judge_parameters),
            judge_timeout_seconds=self.judge_timeout,
            cache=self.cache or run / REPLIES,
            official=self.official,
            paraphrased_prompts=self.paraphrased_prompts,
            worker_url=self.worker_url,
            detector=self.detector,
            clip=self.clip,
            vqa=self.vqa,
            ocr=self.ocr,
            device=str(local_device(pick_device(device))),
        )
        return create_scorer(benchmark, options)


def _object(text: str | None) -> dict[str, Any]:
    """A JSON object from the command line."""
    try:
        found = parse_json(text or "{}")
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise BenchmarkError(
            f"--judge-parameters must be a JSON object such as '{{\"top_p\": 0.9}}', got {text!r}"
        )
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """Score the images of a run, or of any folder; an interrupted run is resumed."""

    benchmark: Positional[Annotated[str, arg(metavar="BENCH")]]
    """Its name, as deepgen eval list shows it."""
    output: OutputFolder = None
    """Folder of the run (default, with --images: next to them)."""
    images: Folder = None
    """Images of any other model, in the layout of the official scorer; they stay there."""
    model_name: Annotated[str, arg(metavar="NAME")] = UNKNOWN
    """The model that generated them."""
    limit: Whole = None
    """With --images: only so many prompts, equally many of each category (default: all)."""
    data: Folder = None
    """Folder of prompt files, instead of the fetched ones."""
    scorer: ScorerFlags = field(default_factory=ScorerFlags)
    """Judge, detector, VQA model or OCR engine."""
    retry_failed: bool = False
    """Score failed images again."""
    shard: Annotated[str | None, arg(metavar="R/N", help_behavior_hint="")] = None
    """Score the R-th of N shards, from 1/N to N/N (default: by torchrun's ranks, else all)."""
    device: DeviceChoice = "auto"
    """Where local scorers compute."""
    json: bool = False
    """Print the scores as a JSON object instead of the run's folder."""
    debug: bool = False
    """Show where an error comes from."""

    def run(self) -> int:
        """Score what has no record yet; the last line counts the images of the run.

        Returns:
            ``INCOMPLETE`` where images are missing or none could be scored, else 0.
        """
        from deepgen.eval.report.results import describe, summarize
        from deepgen.eval.run.generation import choose_shard
        from deepgen.eval.run.stored import read_run

        with locked_run(self.path, self.shard, {"--images": self.images, "--data": self.data}):
            scoring = self.score()
        if self.json:
            report = describe(read_run(self.path, self.data), written="")
            summary = summarize(report, self.path) | {"outcome": scoring.outcome}
            print_result(json.dumps(summary))
        else:
            print_result(str(self.path))
        # The other processes of a run may still be at work on theirs.
        is_done = scoring.outcome == "scored" or (
            scoring.outcome == "not_done" and choose_shard(self.shard).count > 1
        )
        return 0 if is_done else INCOMPLETE

    @property
    def path(self) -> Path:
        """Folder of the run.

        Raises:
            BenchmarkError: It was not named, and neither were images.
        """
        if self.output is not None:
            return self.output
        if self.images is None:
            raise BenchmarkError("name the run with --output, or a folder of images --images")
        images = self.images.resolve()
        return images.with_name(f"{images.name}-{self.benchmark.replace('/', '-')}")

    def score(self, scorer: ImageScorer | None = None) -> Scoring:
        """Score what has no record yet, and count the images of the run.

        Args:
            scorer: One that was created before.
        """
        from deepgen.eval.run.folder import RunFolder
        from deepgen.eval.run.generation import choose_shard, prepare_sources, select_items
        from deepgen.eval.run.layout import find_issues
        from deepgen.eval.run.planned import PlannedRun
        from deepgen.eval.run.scoring import score
        from deepgen.eval.run.stored import check_prompts

        benchmark = find_benchmark(self.benchmark)
        shard = choose_shard(self.shard)
        folder, prompts = RunFolder(self.path), locate(benchmark, self.data)
        found = benchmark.load(prompts)
        manifest = self._manifest(benchmark, found.items, folder)
        items = select_items(found.items, manifest.limit)
        check_prompts(benchmark, items, manifest, folder.path, self.data)
        run = PlannedRun(
            benchmark=benchmark,
            items=items,
            manifest=manifest,
            folder=folder,
            sources=prepare_sources(benchmark, prompts, items, manifest.rule),
        )
        if self.images is not None:
            # For a run of ours, these were printed when it was generated.
            print_prompt_notes(benchmark, found)
        for issue in find_issues(run, found.items).messages():
            print_line(f"warning: {issue}")
        scorer = scorer or self.scorer.create(benchmark, self.path, self.device)
        count = len(items[shard.rank :: shard.count]) * len(run.image_indices)
        with progress_bar(f"scoring {benchmark.title}", count) as advance:
            scoring = score(
                run, scorer, shard=shard, retry_failed=self.retry_failed, advance=advance
            )
        counts = ", ".join(f"{number} {name}" for name, number in scoring.counts.items() if number)
        states = {"scored": "done", "not_done": "not done", "all_failed": "none could be scored"}
        state = states[scoring.outcome]
        if scoring.first_failure:
            print_line(
                f"warning: images failed, the first {scoring.first_failure}; scores.jsonl has "
                "every reason, and --retry-failed scores them again"
            )
        print_line(f"{scoring.generated} of {scoring.expected} images are there: {counts}; {state}")
        return scoring

    def _manifest(
        self, benchmark: Benchmark, complete: Sequence[Item], folder: RunFolder
    ) -> RunManifest:
        """What the run is; it starts here if the images are another model's."""
        from deepgen import __version__
        from deepgen.eval.run.folder import RunManifest, hash_items
        from deepgen.eval.run.generation import select_items
        from deepgen.eval.run.layout import register_images

        if self.images is None:
            if self.limit is not None:
                raise BenchmarkError("--limit requires --images; a run already has its prompts")
            if self.model_name != UNKNOWN:
                raise BenchmarkError("--model-name requires --images; a run already has its model")
            return folder.manifest()
        items = select_items(complete, self.limit)
        manifest = RunManifest(
            benchmark=benchmark.name,
            model=self.model_name,
            weights_sha256=UNKNOWN,
            limit=self.limit,
            prompts_sha256=hash_items(items),
            base_seed=None,
            rule=benchmark.generation["default"],
            settings={"generated": "elsewhere"},
            versions={"deepgen": __version__},
            images=str(self.images.resolve()),
        )
        register_images(benchmark, items, manifest, folder)
        if self.model_name != UNKNOWN:
            folder.name_model(self.model_name)
        return manifest


@dataclass(frozen=True, kw_only=True, slots=True)
class Run(GenerationFlags):
    """Generate, score and report a benchmark; an interrupted run is resumed."""

    output: OutputFolder = None
    """Folder of the run (default: runs/BENCH-MODEL, or runs/BENCH-MODEL-LIMIT)."""
    scorer: ScorerFlags = field(default_factory=ScorerFlags)
    """Judge, detector, VQA model or OCR engine."""
    retry_failed: bool = False
    """Score failed images again."""
    json: bool = False
    """Print the scores as a JSON object instead of the paths of the reports."""
    debug: bool = False
    """Show where an error comes from."""

    def run(self) -> int:
        """All three steps, each of which does only what is missing.

        Returns:
            As ``eval score``.
        """
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise BenchmarkError(
                "eval run is one process; under torchrun use eval generate, then eval score"
            )
        output = self.output or self._usual_folder()
        with locked_run(output, None, self.inputs()):
            return self._run(output)

    def _run(self, output: Path) -> int:
        """See :meth:`run`, in the folder of the run."""
        from deepgen.eval.report.results import summarize

        generation = Generate(
            benchmark=self.benchmark,
            output=output,
            model=self.model,
            data=self.data,
            preset=self.preset,
            limit=self.limit,
            seed=self.seed,
            device=self.device,
        )
        scoring = Score(
            benchmark=self.benchmark,
            output=output,
            data=self.data,
            scorer=self.scorer,
            retry_failed=self.retry_failed,
            device=self.device,
        )
        scorer = self.scorer.create(find_benchmark(self.benchmark), output, self.device)
        # Before anything is generated: an unreachable judge would show only hours later.
        scorer.check()
        generation.generate()
        outcome = scoring.score(scorer).outcome
        report, paths = Report(runs=(output,), data=self.data).write()
        if self.json:
            summary = summarize(report, output) | {"outcome": outcome}
            print_result(json.dumps(summary | {"reports": [str(path) for path in paths]}))
        else:
            for path in paths:
                print_result(str(path))
        return 0 if outcome == "scored" else INCOMPLETE

    def _usual_folder(self) -> Path:
        name = f"{find_benchmark(self.benchmark).name}-{Path(self.model).name}"
        if self.limit is not None:
            name = f"{name}-{self.limit}"
        return Path("runs") / name.replace("/", "-")
