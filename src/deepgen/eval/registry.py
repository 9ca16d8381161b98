"""Names of benchmarks and their variants."""

from __future__ import annotations

from collections.abc import Mapping

from deepgen.errors import BenchmarkError
from deepgen.eval.benchmark import Benchmark
from deepgen.eval.benchmarks.corebench.benchmark import COREBENCH, COREBENCH_REASONING
from deepgen.eval.benchmarks.cvtg.benchmark import CVTG
from deepgen.eval.benchmarks.dpg.benchmark import DPG, DPG_OFFICIAL
from deepgen.eval.benchmarks.gedit.benchmark import GEDIT_CHINESE, GEDIT_ENGLISH
from deepgen.eval.benchmarks.geneval.benchmark import GENEVAL
from deepgen.eval.benchmarks.imgedit.benchmark import IMGEDIT
from deepgen.eval.benchmarks.minibench.benchmark import MINIBENCH, MINIBENCH_VERSION0
from deepgen.eval.benchmarks.rise.benchmark import RISE_2025, RISE_2026
from deepgen.eval.benchmarks.unigenbench.benchmark import UNIGENBENCH
from deepgen.eval.benchmarks.uniredit.benchmark import UNIREDIT
from deepgen.eval.benchmarks.wise.benchmark import WISE_LEGACY, WISE_VERIFIED

BENCHMARKS: Mapping[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        GENEVAL,
        DPG,
        DPG_OFFICIAL,
        *UNIGENBENCH.values(),
        GEDIT_ENGLISH,
        GEDIT_CHINESE,
        IMGEDIT,
        WISE_VERIFIED,
        WISE_LEGACY,
        COREBENCH,
        COREBENCH_REASONING,
        RISE_2026,
        RISE_2025,
        UNIREDIT,
        CVTG,
        MINIBENCH,
        MINIBENCH_VERSION0,
    )
}

PLAIN_NAMES: Mapping[str, str] = {
    "unigenbench": "unigenbench/en",
    "gedit": "gedit/en",
    "wise": "wise/verified",
    "rise": "rise/2026-04",
}
"""What a name without variant means, where it is no benchmark itself."""


def find_benchmark(name: str) -> Benchmark:
    """The benchmark of a name.

    Raises:
        BenchmarkError: There is none.
    """
    benchmark = BENCHMARKS.get(PLAIN_NAMES.get(name, name))
    if benchmark is None:
        raise BenchmarkError(
            f"there is no benchmark {name}; there are {', '.join(BENCHMARKS)}, and for short "
            f"{', '.join(PLAIN_NAMES)}"
        )
    return benchmark


def distinct_prompts() -> tuple[Benchmark, ...]:
    """Benchmarks without those whose prompt files all belong to an earlier one."""
    distinct: list[Benchmark] = []
    for benchmark in BENCHMARKS.values():
        mine = set(benchmark.source.files)
        # Computed prompts have no files; each such benchmark has its own.
        if not mine or not any(mine <= set(each.source.files) for each in distinct):
            distinct.append(benchmark)
    return tuple(distinct)
