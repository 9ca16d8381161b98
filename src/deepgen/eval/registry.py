"""The benchmarks by name. To add one: a folder in ``benchmarks/``, and its line in ``FAMILIES``."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from deepgen.errors import BenchmarkError
from deepgen.eval.benchmark import Benchmark
from deepgen.eval.scorer import ImageScorer, ScoringOptions

FAMILIES = (
    "geneval",
    "dpg",
    "unigenbench",
    "gedit",
    "imgedit",
    "wise",
    "corebench",
    "rise",
    "uniredit",
    "cvtg",
    "minibench",
)
"""Folders, each with ``BENCHMARKS`` in its ``benchmark.py``, the variant that its plain name means
first. In its ``scorer.py`` is ``load_protocol`` where a judge scores, else ``create_scorer``."""

_VARIANTS: dict[str, tuple[Benchmark, ...]] = {
    family: import_module(f"deepgen.eval.benchmarks.{family}.benchmark").BENCHMARKS
    for family in FAMILIES
}

BENCHMARKS: Mapping[str, Benchmark] = {
    benchmark.name: benchmark for variants in _VARIANTS.values() for benchmark in variants
}


def find_benchmark(name: str) -> Benchmark:
    """The benchmark of a name; without a variant, the first one of its folder.

    Raises:
        BenchmarkError: There is none.
    """
    plain = {family: variants[0] for family, variants in _VARIANTS.items()}
    benchmark = BENCHMARKS.get(name) or plain.get(name)
    if benchmark is None:
        short = [name for name in plain if name not in BENCHMARKS]
        raise BenchmarkError(
            f"there is no benchmark {name}; choose one of {', '.join(BENCHMARKS)}, or for short "
            f"{', '.join(short)}"
        )
    return benchmark


def create_scorer(benchmark: Benchmark, options: ScoringOptions) -> ImageScorer:
    """The scorer of a benchmark's images: loads models, reads judge prompts, reaches workers.

    Raises:
        ScorerError: Something that the benchmark needs was not named or is missing; one line says
            what to do.
        BenchmarkError: A file of stored detections cannot be read.
    """
    # Only when images are scored: some scorers import torch.
    module = import_module(f"deepgen.eval.benchmarks.{benchmark.family}.scorer")
    if benchmark.scorer == "judge":
        from deepgen.eval.judge.scorer import create_judge_scorer

        return create_judge_scorer(benchmark, options, module.load_protocol)
    scorer: ImageScorer = module.create_scorer(benchmark, options)
    return scorer


def distinct_prompts() -> tuple[Benchmark, ...]:
    """Benchmarks without those whose prompt files all belong to an earlier one."""
    distinct: list[Benchmark] = []
    for benchmark in BENCHMARKS.values():
        own = set(benchmark.source.files)
        # Computed prompts have no files; each such benchmark has its own.
        if not own or not any(own <= set(each.source.files) for each in distinct):
            distinct.append(benchmark)
    return tuple(distinct)
