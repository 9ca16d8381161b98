"""``deepgen eval score`` and ``run``: judging the images of a benchmark, whoever drew them."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from deepgen.cli.console import print_line, print_result, progress_bar
from deepgen.cli.evaluating import Generate, Report, shard_of, tell_of_prompts
from deepgen.cli.options import DeviceChoice, File, Folder, Text, Whole
from deepgen.devices import local_device, pick_device
from deepgen.errors import BenchmarkError
from deepgen.eval.benchmark import Benchmark, Item, Preset
from deepgen.eval.fetch import locate, source_folder
from deepgen.eval.registry import find_benchmark

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deepgen.eval.run.folder import Manifest, RunFolder
    from deepgen.eval.scorer import Imagescorer

UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True, slots=True)
class Who:
    """Who judges; each benchmark takes what it needs."""

    judge_url: Text = None
    """OpenAI-compatible server of the judge, such as http://localhost:8000/v1; its key comes from
    the environment variable DEEPGEN_JUDGE_KEY. Or scripted:FILE, for trying a run."""
    judge_model: Text = None
    """The judge, as its server calls it."""
    judge_concurrency: Annotated[int, arg(metavar="INT")] = 16
    """Requests in flight at any time."""
    judge_parameters: Text = None
    """JSON object for the judge's server, beside or instead of {"temperature": 0}; null takes one
    away."""
    judge_timeout: Annotated[float, arg(metavar="SECONDS")] = 90.0
    """How long one request may take."""
    cache: File = None
    """File of the judge's replies, for several runs (default: one in the run)."""
    official: File = None
    """Folder of the official repository's files (default: as fetched)."""
    own_words: bool = False
    """Ask the judge in our words, where the authors' are not at hand; such scores are not to be
    compared with published ones."""
    worker_url: Text = None
    """GenEval, DPG-Bench, CVTG-2K: server of a detector, VQA model or reader in an environment of
    its own."""
    detector: Text = None
    """GenEval: folder or hub id of an object detector, or a .jsonl file of what one has found
    (default: a Mask2Former of the hub)."""
    clip: Text = None
    """GenEval and CVTG-2K: folder or hub id of a CLIP (default: OpenAI's of the hub); for CVTG-2K
    none leaves CLIPScore out."""
    vqa: Text = None
    """DPG-Bench: folder or hub id of a model that answers questions about images (default: a
    BLIP of the hub)."""
    ocr: Text = None
    """CVTG-2K: engine that reads words (default: rapidocr, the only one)."""

    def open(self, benchmark: Benchmark, run: Path, device: DeviceChoice) -> Imagescorer:
        """The benchmark's scorer."""
        if benchmark.scorer == "scenes":
            from deepgen.eval.benchmarks.minibench.scorer import MiniBenchScorer

            return MiniBenchScorer(benchmark)
        from deepgen.eval.judged.opening import open_scorer
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
            own_words=self.own_words,
            worker_url=self.worker_url,
            detector=self.detector,
            clip=self.clip,
            vqa=self.vqa,
            ocr=self.ocr,
            device=str(local_device(pick_device(device))),
        )
        return open_scorer(benchmark, options)


def _object(text: str | None) -> dict[str, Any]:
    """A JSON object from the command line."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise BenchmarkError(
            f"--judge-parameters must be a JSON object such as '{{\"top_p\": 0.9}}', got {text!r}"
        )
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """Judge the images of a run, or of any folder; what was interrupted goes on."""

    benchmark: Positional[Annotated[str, arg(metavar="BENCH")]]
    """Its name, as deepgen eval list shows it."""
    output: Folder = None
    """Folder of the run (default, with --images: beside them)."""
    images: Folder = None
    """Images that something else drew, in the layout of the official scorer; they stay there."""
    model_name: Annotated[str, arg(metavar="NAME")] = UNKNOWN
    """Who drew them."""
    limit: Whole = None
    """With --images: so many prompts only, equally many of each category (default: all)."""
    data: Folder = None
    """Folder of prompt files, instead of the fetched ones."""
    who: Who = field(default_factory=Who)
    """Who judges."""
    retry_failed: bool = False
    """Judge images again that could not be judged."""
    shard: Annotated[str | None, arg(metavar="R/N", help_behavior_hint="")] = None
    """Judge the R-th of N shares, from 1/N to N/N (default: as torchrun says, else all)."""
    device: DeviceChoice = "auto"
    """Where local scorers compute."""
    json: bool = False
    """Print the scores as a JSON object instead of the run's folder."""
    debug: bool = False
    """Show where an error comes from."""

    def run(self) -> None:
        """Judge what was not judged yet; the last line says how much of the run is there."""
        self.judge()
        print_result(json.dumps(_summary(self.path, self.data)) if self.json else str(self.path))

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

    def judge(self, scorer: Imagescorer | None = None) -> None:
        """Judge what was not judged yet, and tell what is there.

        Args:
            scorer: One that was opened before.
        """
        from deepgen.eval.run.folder import RunFolder
        from deepgen.eval.run.generation import check_sources, select_items
        from deepgen.eval.run.layout import survey
        from deepgen.eval.run.scoring import score

        benchmark = find_benchmark(self.benchmark)
        share = shard_of(self.shard)
        folder, prompts = RunFolder(self.path), locate(benchmark, self.data)
        found = benchmark.load(prompts)
        complete = found.items
        manifest = self._manifest(benchmark, complete, folder)
        items = select_items(complete, manifest.limit)
        _check_run(benchmark, items, manifest, folder, data=self.data)
        sources = source_folder(benchmark, prompts, manifest.rule)
        if benchmark.draw_sources is not None:
            benchmark.draw_sources(sources, items, manifest.rule)
        check_sources(items, sources)
        if self.images is not None:
            # Of a run of ours, this was told when it was drawn.
            tell_of_prompts(benchmark, found)
        for complaint in survey(benchmark, complete, items, manifest, folder).complaints():
            print_line(f"warning: {complaint}")
        scorer = scorer or self.who.open(benchmark, self.path, self.device)
        mine = len(items[share.rank :: share.count]) * manifest.rule.images_per_item
        with progress_bar(f"judging {benchmark.title}", mine) as advance:
            scoring = score(
                benchmark,
                items,
                manifest,
                scorer,
                folder=folder,
                sources=sources,
                shard=share,
                retry_failed=self.retry_failed,
                advance=advance,
            )
        counts = ", ".join(f"{number} {name}" for name, number in scoring.counts.items() if number)
        state = "done" if scoring.done else "not done"
        if scoring.first_failure:
            print_line(
                f"warning: images that could not be judged, the first {scoring.first_failure}; "
                "scores.jsonl has every reason, and --retry-failed judges them again"
            )
        print_line(f"{scoring.drawn} of {scoring.expected} images are there: {counts}; {state}")

    def _manifest(
        self, benchmark: Benchmark, complete: Sequence[Item], folder: RunFolder
    ) -> Manifest:
        """What the run is, begun here if the images are someone else's."""
        from deepgen import __version__
        from deepgen.eval.run.folder import Manifest, hash_items
        from deepgen.eval.run.generation import select_items
        from deepgen.eval.run.layout import adopt

        if self.images is None:
            if self.limit is not None:
                raise BenchmarkError("--limit goes with --images; a run knows its own prompts")
            if self.model_name != UNKNOWN:
                raise BenchmarkError("--model-name goes with --images; a run knows its own model")
            return folder.manifest()
        items = select_items(complete, self.limit)
        manifest = Manifest(
            benchmark=benchmark.name,
            model=self.model_name,
            weights_sha256=UNKNOWN,
            limit=self.limit,
            prompts_sha256=hash_items(items),
            base_seed=None,
            rule=benchmark.generation["default"],
            how={"drawn": "elsewhere"},
            versions={"deepgen": __version__},
            images=str(self.images.resolve()),
        )
        adopt(benchmark, items, manifest, folder)
        if self.model_name != UNKNOWN:
            folder.name_model(self.model_name)
        return manifest


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """Draw, judge and report a benchmark; what was interrupted goes on."""

    benchmark: Positional[Annotated[str, arg(metavar="BENCH")]]
    """Its name, as deepgen eval list shows it."""
    output: Folder = None
    """Folder of the run (default: runs/BENCH-MODEL, or runs/BENCH-MODEL-LIMIT)."""
    model: Annotated[str, arg(metavar="MODEL")] = "mini"
    """The embedded model (mini), a model folder, or a hub id with an optional @REVISION."""
    data: Folder = None
    """Folder of prompt files, instead of the fetched ones."""
    preset: Preset = "default"
    """The model's own settings, or those of the published runs."""
    limit: Whole = None
    """So many prompts only, equally many of each category (default: all)."""
    seed: int = 0
    """Image i of prompt p uses SEED + 1000 p + i."""
    who: Who = field(default_factory=Who)
    """Who judges."""
    retry_failed: bool = False
    """Judge images again that could not be judged."""
    device: DeviceChoice = "auto"
    """Where to compute."""
    json: bool = False
    """Print the scores as a JSON object instead of where the reports are."""
    debug: bool = False
    """Show where an error comes from."""

    def run(self) -> None:
        """All three steps, each of which does only what is missing."""
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise BenchmarkError(
                "eval run is one process; under torchrun use eval generate, then eval score"
            )
        output = self.output or self._usual_folder()
        drawing = Generate(
            benchmark=self.benchmark,
            output=output,
            model=self.model,
            data=self.data,
            preset=self.preset,
            limit=self.limit,
            seed=self.seed,
            device=self.device,
        )
        judging = Score(
            benchmark=self.benchmark,
            output=output,
            data=self.data,
            who=self.who,
            retry_failed=self.retry_failed,
            device=self.device,
        )
        scorer = self.who.open(find_benchmark(self.benchmark), output, self.device)
        # Before anything is drawn: that a judge cannot be asked would come to light hours later.
        scorer.check()
        drawing.draw()
        judging.judge(scorer)
        _, paths = Report(runs=(output,), data=self.data).write()
        if self.json:
            summary = _summary(output, self.data) | {"reports": [str(path) for path in paths]}
            print_result(json.dumps(summary))
            return
        for path in paths:
            print_result(str(path))

    def _usual_folder(self) -> Path:
        name = f"{find_benchmark(self.benchmark).name}-{Path(self.model).name}"
        if self.limit is not None:
            name = f"{name}-{self.limit}"
        return Path("runs") / name.replace("/", "-")


def _check_run(
    benchmark: Benchmark,
    items: Sequence[Item],
    manifest: Manifest,
    folder: RunFolder,
    data: Path | None,
) -> None:
    """See that a run is of this benchmark and of these prompts.

    Raises:
        BenchmarkError: Of which it is.
    """
    from deepgen.eval.run.folder import hash_items

    if manifest.benchmark != benchmark.name:
        raise BenchmarkError(
            f"{folder.path} is a run of {manifest.benchmark}, not of {benchmark.name}; name that "
            "benchmark, or another folder"
        )
    if hash_items(items) != manifest.prompts_sha256:
        raise BenchmarkError(
            f"the prompts of {benchmark.name} {'here' if data is None else f'in {data}'} are not "
            f"those that {folder.path} was drawn from; name their folder with --data"
        )


def _summary(path: Path, data: Path | None) -> dict[str, Any]:
    """The scores of a run under the strict rule, for programs."""
    from deepgen.eval.report.results import describe
    from deepgen.eval.run.stored import read_run

    stored = read_run(path, data)
    report = describe(stored, "")
    strict = report["rules"]["strict"]
    headline = stored.benchmark.metrics[0].name
    interval = report["intervals"].get(headline)
    return {
        "benchmark": report["benchmark"],
        "run": str(path),
        "model": stored.manifest.model,
        "scorer": report["judged_by"],
        "state": report["state"],
        "subset": report["subset"],
        "headline": strict["headline"],
        "metrics": strict["metrics"],
        "categories": strict["categories"][headline],
        "interval": interval and [interval["low"], interval["high"]],
        "counts": report["counts"],
        "coverage": report["coverage"],
        "rule": "strict",
    }
