"""``deepgen data export``: a data set in the forms that other programs read."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from deepgen.cli.console import counted, print_line, print_result, progress_bar
from deepgen.cli.data.disk import reporting_disk_failures
from deepgen.cli.options import DataFolder
from deepgen.outputs import check_output_folder

Flag = Literal["exact_duplicate", "near_duplicate", "contaminated", "misaligned"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Export:
    """Write a data set for webdataset, datasets and other trainers; images keep their bytes."""

    folder: DataFolder
    """A data set, or the file of a mixture."""
    output: Positional[Annotated[Path, arg(metavar="OUT")]]
    """A new folder; deepgen data import exported OUT takes it back."""
    format: Literal["webdataset", "parquet", "folder"] = "webdataset"
    """Tars, Parquet files with images, or image files with a metadata.jsonl."""
    task: Annotated[
        Literal["t2i", "edit"] | None, arg(metavar="t2i|edit", help_behavior_hint="")
    ] = None
    """Only samples of this task (default: all)."""
    split: Annotated[
        Literal["train", "val"] | None, arg(metavar="train|val", help_behavior_hint="")
    ] = None
    """Only samples of this split (default: all)."""
    licences: Annotated[tuple[str, ...], arg(metavar="LICENCE [LICENCE ...]")] = ()
    """Only samples with one of these licences."""
    exclude: Annotated[tuple[Flag, ...], arg(metavar="FLAG [FLAG ...]")] = ()
    """Leave out samples that data check --measure flagged: exact_duplicate, near_duplicate,
    contaminated, misaligned."""
    restricted: Literal["refuse", "include", "skip"] = "refuse"
    """What to do about samples that are not marked as redistributable."""
    shard_mib: int = 512
    """Size of a tar or Parquet file."""
    json: bool = False
    """Print one JSON object."""
    debug: bool = False
    """Show where an error comes from."""

    def run(self) -> None:
        """Export, and print the counts."""
        from deepgen.data.exporting import ExportOptions, export, left_out_by
        from deepgen.data.measures import flagged
        from deepgen.data.mixture import open_data

        if self.shard_mib < 1:
            raise ValueError(f"--shard-mib must be at least 1, got {self.shard_mib}")
        data = open_data(self.folder)
        check_output_folder(self.output, {"DIR": self.folder}, own="", name="OUT")
        options = ExportOptions(
            format=self.format,
            task=self.task,
            split=self.split,
            licences=self.licences,
            restricted=self.restricted,
            shard_bytes=self.shard_mib << 20,
        )
        excluded = flagged(data, self.exclude) if self.exclude else None
        with reporting_disk_failures(self.output), progress_bar("exporting", None) as advance:
            report = export(data, self.output, options, excluded=excluded, watch=advance)
        if self.json:
            print_result(json.dumps({"path": str(self.output), **asdict(report)}))
            return
        for line in left_out_by(report.left_out):
            print_line(line)
        samples = counted(report.samples, "sample")
        print_result(f"{self.output}: {samples} in {counted(report.files, 'file')}")
