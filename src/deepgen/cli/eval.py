"""``deepgen eval``: benchmarks, their prompts and runs, and their prompts in training lists."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from deepgen.cli.console import aligned, print_line, print_result
from deepgen.cli.options import Folder
from deepgen.errors import BenchmarkError, MissingPromptsError
from deepgen.eval.benchmark import Benchmark
from deepgen.eval.contamination import Match, PromptIndex, count_items
from deepgen.eval.fetch import cache_folder, fetch, locate
from deepgen.eval.prompt_files import read_prompt_list
from deepgen.eval.registry import BENCHMARKS, distinct_prompts, find_benchmark


@dataclass(frozen=True, kw_only=True, slots=True)
class List:
    """Show the benchmarks and what each needs."""

    data: Folder = None
    """Folder of prompt files, instead of the fetched ones."""
    json: bool = False
    """Print one JSON object per benchmark."""
    debug: bool = False
    """Show where an error comes from."""

    def run(self) -> None:
        """Print the table."""
        if self.data is not None and not self.data.is_dir():
            raise BenchmarkError(f"there is no folder {self.data}; name one with prompt files")
        rows = [_description(benchmark, self.data) for benchmark in BENCHMARKS.values()]
        if self.json:
            print_result("\n".join(json.dumps(row) for row in rows))
            return
        shown = ("name", "task", "items", "images", "scorer", "licence", "prompts")
        cells = [[str(row[column]) for column in shown] for row in rows]
        print_result("\n".join(aligned([list(shown), *cells])))


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetch:
    """Download the prompts of benchmarks at pinned commits."""

    benchmarks: Positional[
        Annotated[tuple[str, ...], arg(metavar="BENCH [BENCH ...]", help_behavior_hint="")]
    ]
    """Names, as deepgen eval list shows them."""
    data: Folder = None
    """Folder to keep them in, instead of the user's cache."""
    debug: bool = False
    """Show where an error comes from."""

    def run(self) -> None:
        """Print one line per file: its outcome and its path."""
        if not self.benchmarks:
            raise BenchmarkError("name at least one benchmark; deepgen eval list shows them")
        chosen = [find_benchmark(name) for name in self.benchmarks]
        missing, failed = [], []
        for benchmark in chosen:
            folder = (self.data or cache_folder()) / benchmark.folder
            if benchmark.render_sources is not None:
                print_line(f"{benchmark.name} is computed: there is nothing to fetch")
            for file in fetch(benchmark, folder):
                if file.note:
                    print_line(f"{file.path} {file.note}")
                if file.outcome == "by hand":
                    missing.append(str(file.path))
                elif file.outcome == "failed":
                    failed.append(str(file.path))
                else:
                    print_result(f"{file.outcome}  {file.path}")
        problems = []
        if failed:
            problems.append(f"{', '.join(failed)} failed: try again, or see the reasons")
        if missing:
            problems.append(f"{', '.join(missing)} has no address: get it by hand as described")
        if problems:
            raise BenchmarkError("; ".join(problems))


@dataclass(frozen=True, kw_only=True, slots=True)
class Contamination:
    """Find prompts of the benchmarks in training lists, exact and near ones."""

    prompts: Positional[
        Annotated[tuple[Path, ...], arg(metavar="PROMPTS [PROMPTS ...]", help_behavior_hint="")]
    ]
    """Lists: one prompt a line, .jsonl with a prompt in each line, or .json."""
    data: Folder = None
    """Folder of prompt files, instead of the fetched ones."""
    json: bool = False
    """Print one JSON object per list, with every match."""
    debug: bool = False
    """Show where an error comes from."""

    def run(self) -> None:
        """Print how many items of each benchmark every list contains."""
        if not self.prompts:
            raise BenchmarkError("name at least one list of prompts")
        lists = {path: read_prompt_list(path) for path in self.prompts}
        sizes, index = prompt_index(self.data)
        for path, listed in lists.items():
            matches = index.find(listed)
            if self.json:
                print_result(json.dumps(_report(path, len(listed), sizes, matches)))
            else:
                print_result(
                    "\n".join([f"{path}: {len(listed):,} prompts", *_table(sizes, matches), ""])
                )


def prompt_index(data: Path | None) -> tuple[dict[str, int], PromptIndex]:
    """The prompts of all benchmarks that are here, and how many each has.

    Raises:
        BenchmarkError: None is.
    """
    loaded, absent = {}, []
    for benchmark in distinct_prompts():
        try:
            found = benchmark.load(locate(benchmark, data))
        except MissingPromptsError as error:
            absent.append(f"{benchmark.name} ({error})")
            continue
        loaded[benchmark.name] = found.items
        if found.absent:
            print_line(f"warning: {benchmark.name} lacks {', '.join(found.absent)}")
    # Computed prompts are always here, and never the only ones wanted.
    if all(find_benchmark(name).render_sources is not None for name in loaded):
        raise BenchmarkError(
            "no benchmark prompts found, except computed ones; fetch some, for example "
            "deepgen eval fetch geneval wise, or name their folder with --data"
        )
    for each in absent:
        print_line(f"warning: not compared with {each}")
    return {name: len(items) for name, items in loaded.items()}, PromptIndex(loaded)


def _description(benchmark: Benchmark, data: Path | None) -> dict[str, Any]:
    """One benchmark as ``list`` shows it."""
    return {
        "name": benchmark.name,
        "title": benchmark.title,
        "task": benchmark.task,
        "items": benchmark.expected_items,
        "images": benchmark.expected_items * benchmark.generation["paper"].images_per_item,
        "scorer": benchmark.scorer,
        "judge": benchmark.judge,
        "licence": benchmark.source.licence,
        "source": f"{benchmark.source.repository}@{benchmark.source.commit}",
        "prompts": _state(benchmark, data),
    }


def _state(benchmark: Benchmark, data: Path | None) -> str:
    if benchmark.render_sources is not None:
        return "computed"
    try:
        found = benchmark.load(locate(benchmark, data))
    except MissingPromptsError:
        return "absent"
    except BenchmarkError:
        return "altered"
    return "partial" if found.absent else "here"


def _report(
    path: Path, number: int, sizes: Mapping[str, int], matches: Sequence[Match]
) -> dict[str, Any]:
    counts = count_items(matches, sizes)
    return {
        "list": str(path),
        "prompts": number,
        "benchmarks": {name: {"items": size, **counts[name]} for name, size in sizes.items()},
        "matches": [asdict(match) for match in matches],
    }


def _table(sizes: Mapping[str, int], matches: Sequence[Match]) -> list[str]:
    rows = [["benchmark", "items", "exact", "near"]]
    for name, found in count_items(matches, sizes).items():
        rows.append([name, str(sizes[name]), str(found["exact"]), str(found["near"])])
    return aligned(rows)
