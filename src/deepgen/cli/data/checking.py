"""``deepgen data check``: damage, and what should not be trained on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING

from deepgen.cli.console import counted, print_line, print_result, progress_bar
from deepgen.cli.data.counts import indented, print_columns
from deepgen.cli.options import DataFolder, Folder
from deepgen.errors import BenchmarkError, DataError

if TYPE_CHECKING:
    from deepgen.data.dataset import DataSet
    from deepgen.eval.contamination import PromptIndex

SHOWN_PROBLEMS = 20
"""Lines printed; the rest is counted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """Read every byte, decode every image, and compare with the hashes of the import."""

    folder: DataFolder
    """A data set, or the file of a mixture."""
    measure: bool = False
    """Also measure duplicates, prompts of benchmarks, and edits whose images do not coincide;
    data stats counts them, data export --exclude and mixtures leave them out."""
    prompts: Folder = None
    """Folder of prompt files of benchmarks, instead of the fetched ones."""
    json: bool = False
    """Print one JSON object per problem."""
    debug: bool = False
    """Show where an error comes from."""

    def run(self) -> None:
        """Print the problems.

        Raises:
            DataError: There are some.
        """
        from deepgen.data.checking import problems_of
        from deepgen.data.mixture import open_data

        data = open_data(self.folder)
        count = 0
        can_train = True
        with progress_bar("checking", len(data)) as advance:
            problems = (
                (part, each) for part, _ in data.parts for each in problems_of(part, watch=advance)
            )
            for member, problem in problems:
                count += 1
                can_train &= problem.is_replaceable
                if self.json:
                    print_result(json.dumps({"data": str(member.folder), **asdict(problem)}))
                elif count <= SHOWN_PROBLEMS:
                    place = problem.sample_id or str(member.folder)
                    print_result(f"{place}: {problem.reason}: {problem.message}")
        if count:
            alternative = (
                ", or train anyway: damaged samples are replaced by others and recorded, at least "
                "two, and up to the fraction of --max-bad-fraction"
            )
            raise DataError(
                f"problems in {self.folder}: {count}; import again into a new folder"
                + (alternative if can_train else "")
            )
        if not self.json:
            print_result(f"{self.folder}: {counted(len(data), 'sample')}, all as imported")
        if self.measure:
            self._measure(data)

    def _measure(self, data: DataSet) -> None:
        from deepgen.cli.eval import prompt_index
        from deepgen.data.measures import measure

        find: Callable[[Sequence[str]], str | None] | None = None
        try:
            _, index = prompt_index(self.prompts)
        except BenchmarkError as error:
            problem = str(error).replace("--data", "--prompts")
            print_line(f"warning: contamination is not measured: {problem}")
        else:
            find = partial(_first_match, index)
        counts: Counter[str] = Counter()
        with progress_bar("measuring", len(data)) as advance:
            for member, _ in data.parts:
                counts.update(measure(member, find, watch=advance))
        if self.json:
            print_result(json.dumps({"measured": counts}))
        else:
            print_columns("measured", indented(counts))


def _first_match(index: PromptIndex, texts: Sequence[str]) -> str | None:
    """A benchmark's item among the prompts of a sample."""
    found = index.find(texts)
    return f"{found[0].kind} {found[0].benchmark} {found[0].item}" if found else None
