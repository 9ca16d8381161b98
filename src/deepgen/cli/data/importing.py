"""``deepgen data import``: images with their texts become a data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from tyro.conf import Positional, arg

from deepgen.cli.console import print_line, progress_bar
from deepgen.cli.data.counts import print_report
from deepgen.cli.data.disk import reporting_disk_failures
from deepgen.cli.options import Folder, Text, Whole, naming_options
from deepgen.config.checks import check_at_least, check_fraction
from deepgen.data.importers.registry import IMPORTERS, open_source

if TYPE_CHECKING:
    from deepgen.data.importers.source import Source
    from deepgen.data.parallel import Executor

    ImporterName = str
else:
    ImporterName = Literal[tuple(IMPORTERS)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Import:
    """Import images with captions, or edits; the same command resumes an interrupted import."""

    HELP_LISTS: ClassVar = {"Importers": IMPORTERS}

    importer: Positional[Annotated[ImporterName, arg(metavar="IMPORTER")]]
    """What SRC is: folder, table, or another of the importers below."""
    source: Positional[Annotated[Path, arg(metavar="SRC")]]
    """The folder or the table."""
    folder: Positional[Annotated[Path, arg(metavar="DST")]]
    """A new folder for the data set, or that of an interrupted import."""
    name: Text = None
    """First part of every sample's id (default: the name of SRC)."""
    images: Folder = None
    """Folder that a table's paths are relative to (default: the table's own)."""
    caption_key: Text = None
    """Column or JSON key of the text (default: the only usual one that has a value)."""
    caption_suffix: Text = None
    """Ending of caption files, such as .caption (default: .txt or .json)."""
    ignore_metadata: bool = False
    """Read caption files even where the folder has a metadata table."""
    part: Text = None
    """Import only this part of a published data set (default: all that training uses)."""
    map: tuple[str, ...] = ()
    """What fields or members hold, such as --map target=jpg caption_long=recap."""
    strip_prefix: Text = None
    """Beginning of the paths in a published table that the files do not have."""
    licence: Text = None
    """Recorded with every sample that states none (default: that of a published data set)."""
    redistributable: bool = False
    """Record that the images may be redistributed (a published data set's own answer is kept)."""
    val_fraction: float = 0.0
    """Fraction of samples held out of training; runs report their loss as val/loss."""
    min_side: int = 81
    """Quarantine images with a side below this."""
    max_references: int = 4
    """Quarantine edits with more references."""
    shard_mib: int = 256
    """Size of a shard; an interrupted import repeats at most this much."""
    max_bad_fraction: float = 0.5
    """Stop where more of the rows are faulty; a larger fraction resumes the import."""
    workers: Whole = None
    """Processes that decode images (default: threads of this one)."""
    ray: bool = False
    """Decode on the machines of the Ray cluster that RAY_ADDRESS names."""
    json: bool = False
    """Print one JSON object."""
    debug: bool = False
    """Show where an error comes from."""

    def run(self) -> None:
        """Import, and print the counts."""
        from deepgen.data.dataset import read_manifest
        from deepgen.data.importing import ImportOptions, import_source

        check_fraction("--max-bad-fraction", self.max_bad_fraction)
        check_at_least("--shard-mib", self.shard_mib, 1)
        executor = self._executor()
        with reporting_disk_failures(self.folder):
            source = self._source()
            with naming_options(self):
                options = ImportOptions(
                    name=self.name or _name_of(self.source),
                    licence=source.licence if self.licence is None else self.licence,
                    redistributable=self.redistributable or source.redistributable,
                    val_fraction=self.val_fraction,
                    min_side=self.min_side,
                    max_references=self.max_references,
                    shard_bytes=self.shard_mib << 20,
                )
            before = read_manifest(self.folder) if self.folder.is_dir() else None
            with progress_bar("importing", None) as advance:
                report = import_source(
                    source,
                    self.folder,
                    options,
                    executor=executor,
                    max_bad_fraction=self.max_bad_fraction,
                    watch=lambda rows: advance(),
                    say=print_line,
                )
        for note in source.notes():
            print_line(f"warning: {note}")
        if before is not None and before.complete:
            print_line("already imported, nothing changed")
        print_report(self.folder, report, as_json=self.json)

    def _executor(self) -> Executor | None:
        from deepgen.data.parallel import Processes, RayCluster

        if self.ray and self.workers is not None:
            raise ValueError("--workers is for one machine, --ray for several; choose one")
        if self.workers is None:
            return RayCluster() if self.ray else None
        check_at_least("--workers", self.workers, 1)
        return Processes(self.workers)

    def _source(self) -> Source:
        from deepgen.data.importers.source import SourceOptions
        from deepgen.data.importing import SCRATCH

        options = SourceOptions(
            images=self.images,
            caption_key=self.caption_key,
            caption_suffix=self.caption_suffix,
            ignore_metadata=self.ignore_metadata,
            part=self.part,
            mapping=self.map,
            strip_prefix=self.strip_prefix,
            scratch=self.folder / SCRATCH,
        )
        source = open_source(self.importer, self.source, options)
        if self.source.is_dir() and self.folder.resolve().is_relative_to(self.source.resolve()):
            raise ValueError(
                f"{self.folder} is inside {self.source}, where images are searched; choose a "
                "folder outside"
            )
        return source


def _name_of(source: Path) -> str:
    """A name derived from that of a file or folder."""
    stem = source.resolve().name if source.is_dir() else source.stem
    return "".join(each if each.isalnum() or each in "-_" else "_" for each in stem) or "data"
