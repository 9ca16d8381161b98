"""``deepgen data prompts``: files of prompts for reinforcement learning."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from deepgen.cli.console import print_line, print_result
from deepgen.cli.options import Folder
from deepgen.errors import MissingPromptsError, UsageError
from deepgen.outputs import check_output_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from deepgen.eval.contamination import PromptIndex
    from deepgen.rl.prompts import Prompt


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompts:
    """Build a file of prompts; it fails if one is a prompt of a benchmark."""

    output: Positional[Annotated[Path, arg(metavar="PROMPTS.jsonl")]]
    """File to write."""
    text: Annotated[int, arg(metavar="INT")] = 0
    """Prompts for text rendering, of our own, English and Chinese, with the texts to write."""
    mini: Annotated[int, arg(metavar="INT")] = 0
    """Prompts of the mini's world, with their scenes."""
    mini_version0: Annotated[int, arg(metavar="INT")] = 0
    """Prompts of the part of that world that the first embedded model knows."""
    start: Annotated[int, arg(metavar="INT")] = 0
    """First index of these prompts: other indices give other prompts, such as held-out ones."""
    lists: Annotated[tuple[Path, ...], arg(metavar="FILE [FILE ...]")] = ()
    """Lists of prompts: records (.jsonl), or one prompt a line."""
    category: Annotated[str, arg(metavar="NAME")] = "general"
    """Of the prompts of lists that state none."""
    license: Annotated[str, arg(metavar="TEXT")] = ""
    """Of the prompts of lists that state none."""
    quoted_targets: bool = False
    """Take what lists have between quotes as the texts to write."""
    data: Folder = None
    """Folder of the benchmarks' prompts, instead of the fetched ones."""
    overwrite: bool = False
    """Replace the file."""
    json: bool = False
    """Print one JSON object."""
    debug: bool = False
    """Show where an error comes from."""

    def run(self) -> None:
        """Write the file, and print how many prompts of each category it has.

        Raises:
            DataError: A prompt is a benchmark's, or a list cannot be read.
            ValueError: The file exists, or no prompts were asked for.
        """
        from deepgen.prompts.building import check_overlap, check_targets, count_categories
        from deepgen.rl.prompts import write_prompts

        if not (self.text or self.mini or self.mini_version0 or self.lists):
            raise UsageError("ask for prompts with --text, --mini, --mini-version0 or --lists")
        if self.output.exists() and not self.overwrite:
            raise ValueError(f"{self.output} exists; use another name, or --overwrite")
        check_output_file(self.output)
        compared, benchmarks = self._benchmarks()
        listed = self._listed()
        check_targets(listed)
        check_overlap(listed, benchmarks)
        prompts = [*self._generated(benchmarks), *listed]
        write_prompts(self.output, prompts, overwrite=self.overwrite)
        counts = count_categories(prompts)
        if self.json:
            summary = {"path": str(self.output), "prompts": counts, "compared_with": compared}
            print_result(json.dumps(summary))
            return
        print_line(", ".join(f"{count:,} {name}" for name, count in counts.items()) + " prompts")
        print_line(f"none is a prompt of {', '.join(compared)}")
        print_result(str(self.output))

    def _generated(self, benchmarks: PromptIndex) -> list[Prompt]:
        from deepgen.prompts.building import generate, mini_prompt
        from deepgen.prompts.text_rendering import text_prompt

        makers: Sequence[tuple[int, Callable[[int], Prompt]]] = (
            (self.text, text_prompt),
            (self.mini, mini_prompt),
            (self.mini_version0, lambda index: mini_prompt(index, "mini-version0")),
        )
        return [
            prompt
            for count, make in makers
            for prompt in generate(make, count, benchmarks, start=self.start)
        ]

    def _listed(self) -> list[Prompt]:
        from deepgen.prompts.building import with_quoted_targets
        from deepgen.rl.prompts import read_prompts

        prompts = []
        for path in self.lists:
            for each in read_prompts(path, category=self.category):
                prompt = replace(
                    each,
                    source=each.source or path.name,
                    license=each.license or self.license,
                )
                prompts.append(with_quoted_targets(prompt) if self.quoted_targets else prompt)
        return prompts

    def _benchmarks(self) -> tuple[list[str], PromptIndex]:
        """The benchmarks whose prompts are on this machine, and an index of them."""
        from deepgen.eval.contamination import PromptIndex
        from deepgen.eval.fetch import locate
        from deepgen.eval.registry import distinct_prompts

        loaded, absent = {}, []
        for benchmark in distinct_prompts():
            try:
                loaded[benchmark.name] = benchmark.load(locate(benchmark, self.data)).items
            except MissingPromptsError:
                absent.append(benchmark.name)
        if absent:
            print_line(
                f"warning: not compared with {', '.join(absent)}, whose prompts are not on this "
                "machine; deepgen eval fetch gets them"
            )
        return list(loaded), PromptIndex(loaded)
