"""``deepgen train report``: the page of a training run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from deepgen.cli.console import print_result
from deepgen.cli.options import OutputFile
from deepgen.outputs import check_output_file


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainReport:
    """Write a run's curves, sample images and groups as one HTML file; also while it trains."""

    run_folder: Positional[Annotated[Path, arg(metavar="RUN", name="run")]]
    """Folder of the run, of any stage, or of train mini."""
    output: OutputFile = None
    """File to write (default: report.html in the run)."""
    debug: bool = False
    """Show where an error comes from."""

    def run(self) -> None:
        """Print the path of the page.

        Raises:
            TrainingError: The folder has no metrics.
            ValueError: No file can be written under that name.
        """
        from deepgen.stages.run_page import write_run_page

        if self.output is not None:
            check_output_file(self.output)
        print_result(str(write_run_page(self.run_folder, self.output)))
