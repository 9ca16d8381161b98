"""``deepgen data``: importing images with their texts, and inspecting imported data sets."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from tyro.conf import Positional, arg

from deepgen.checkpoint.finding import find_model
from deepgen.cli.console import aligned, counted, print_line, print_result, progress_bar
from deepgen.cli.options import DeviceChoice, Folder, Text, Whole, naming_options
from deepgen.cli.output import STANDARD_OUTPUT, plan_outputs, save_output
from deepgen.config.checks import check_at_least, check_fraction
from deepgen.config.sizes import check_side
from deepgen.data.importers.registry import IMPORTERS, open_source
from deepgen.data.mixture_presets import PRESETS
from deepgen.devices import pick_device
from deepgen.errors import BenchmarkError, DataError

if TYPE_CHECKING:
    from deepgen.data.dataset import DataSet
    from deepgen.data.importers.source import Source
    from deepgen.data.importing import ImportReport
    from deepgen.data.latents import LatentCache
    from deepgen.data.parallel import Executor
    from deepgen.eval.contamination import PromptIndex

    ImporterName = str
    MixtureName = str
else:
    ImporterName = Literal[tuple(IMPORTERS)]
    MixtureName = Literal[PRESETS]

DataFolder = Positional[Annotated[Path, arg(metavar="DIR")]]

Lines = list[tuple[str, int | str]]

SHOWN_PROBLEMS = 20
"""Lines of ``data check``; the rest is counted."""

SHOWN_BUCKETS = 12
"""Lines of ``data stats``; --json lists them all."""


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
            _print_lines("measured", _indented(counts))


@dataclass(frozen=True, kw_only=True, slots=True)
class Preview:
    """Write a contact sheet of some samples, or a page with search, filters and histograms."""

    folder: DataFolder
    """A data set, or the file of a mixture."""
    output: Positional[Annotated[Path | None, arg(metavar="OUT", help_behavior_hint="")]] = None
    """Image file: .png, .jpg or .webp; - is standard output. With --html the page (default: named
    like DIR)."""
    html: bool = False
    """Write a page for the browser, which loads nothing from elsewhere."""
    count: Whole = None
    """Samples shown (default: 24, in a page 200)."""
    seed: int = 0
    """Chooses the samples."""
    overwrite: bool = False
    """Replace an existing file."""
    json: bool = False
    """Print one JSON object."""
    debug: bool = False
    """Show where an error comes from."""

    def run(self) -> None:
        """Write the sheet or the page, and print its path."""
        from deepgen.data.mixture import open_data
        from deepgen.data.preview import contact_sheet

        if self.count is not None and self.count < 1:
            raise ValueError(f"--count must be at least 1, got {self.count}")
        if self.html:
            self._write_page()
            return
        if self.output is None:
            raise ValueError("name an image file, such as sheet.png, or add --html for a page")
        count = self.count or 24
        (path,) = plan_outputs(self.output, 1, overwrite=self.overwrite, name="OUT")
        sheet = contact_sheet(open_data(self.folder), count=count, seed=self.seed)
        record = {"data": self.folder.name, "count": count, "seed": self.seed}
        save_output(sheet, path, record, overwrite=self.overwrite)
        if path != STANDARD_OUTPUT:
            print_result(json.dumps({"path": str(path), **record}) if self.json else str(path))

    def _write_page(self) -> None:
        from deepgen.data.measures import flags_by_row
        from deepgen.data.mixture import open_data
        from deepgen.data.preview_page import preview_page
        from deepgen.images.io import atomic_file
        from deepgen.outputs import check_output_file

        data = open_data(self.folder)
        own = self.folder.resolve()
        path = self.output or Path(f"{own.name if own.is_dir() else own.stem}.html")
        if path.suffix.lower() not in (".html", ".htm"):
            raise ValueError(f"{path} must end in .html")
        check_output_file(path)
        if path.exists() and not self.overwrite:
            raise ValueError(f"{path} exists; add --overwrite to replace it")
        count = self.count or 200
        with progress_bar("showing", min(count, int(data.used.sum()))) as advance:
            page = preview_page(
                data, count=count, seed=self.seed, faults=flags_by_row(data), watch=advance
            )
        with atomic_file(path, overwrite=self.overwrite) as part:
            part.write_text(page.html, encoding="utf-8")
        found = {"path": str(path), "samples": page.shown, "of": page.total}
        if self.json:
            print_result(json.dumps(found))
        else:
            print_line(f"{page.shown:,} of {counted(page.total, 'sample')}")
            print_result(str(path))


@dataclass(frozen=True, kw_only=True, slots=True)
class Cache:
    """Encode all images once instead of in training; the same command resumes."""

    folder: DataFolder
    """A data set."""
    model: Annotated[str, arg(metavar="MODEL")] = "mini"
    """Model whose VAE encodes: the embedded model (mini), a model folder, or a hub id."""
    side: Whole = None
    """Images are resized to about SIDE * SIDE pixels (default: the model's own)."""
    batch_size: int = 8
    """Images encoded together."""
    device: DeviceChoice = "auto"
    """Where to compute."""
    json: bool = False
    """Print one JSON object."""
    debug: bool = False
    """Show where an error comes from."""

    def run(self) -> None:
        """Encode, and print the folder of the cache, or of that of each member of a mixture."""
        with reporting_disk_failures(self.folder):
            caches = self._encode()
        for cache in caches:
            path, found = str(cache.folder), {"side": cache.side, "files": cache.files}
            print_result(json.dumps({"path": path, **found}) if self.json else path)

    def _encode(self) -> list[LatentCache]:
        from deepgen.data.mixture import open_data

        if self.batch_size < 1:
            raise ValueError(f"--batch-size must be at least 1, got {self.batch_size}")
        data, model = open_data(self.folder), find_model(self.model)
        own = round(math.sqrt(model.defaults.height * model.defaults.width))
        side = check_side("--side", own if self.side is None else self.side)
        import torch

        from deepgen.checkpoint.parts import vae_part
        from deepgen.data.latents import build_cache, weights_hash
        from deepgen.vae import LatentCodec

        device = torch.device(pick_device(self.device))
        # In float32: rounding here would affect every epoch.
        codec = LatentCodec(vae_part(model.folder).load(torch.float32, device)).eval()
        with torch.inference_mode(), progress_bar("encoding", None) as advance:
            return [
                build_cache(
                    member,
                    lambda pixels: codec.posterior_parameters(pixels.to(device)),
                    vae_hash=weights_hash(codec),
                    side=side,
                    batch_size=self.batch_size,
                    watch=advance,
                )
                for member, _ in data.parts
            ]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stats:
    """Count samples by task, bucket, kind and length of prompts, and size; of a mixture, by source
    what a run will see."""

    folder: DataFolder
    """A data set, or the file of a mixture."""
    side: int = 512
    """Buckets are of about SIDE * SIDE pixels."""
    samples: int = 1_000_000
    """Of a mixture: samples of the run, all tasks together."""
    json: bool = False
    """Print one JSON object."""
    debug: bool = False
    """Show where an error comes from."""

    def run(self) -> None:
        """Print the numbers."""
        from deepgen.data.mixture import MixedData, open_data
        from deepgen.data.stats import stats_of

        check_at_least("--side", self.side, 1)
        check_at_least("--samples", self.samples, 1)
        data = open_data(self.folder)
        found = asdict(stats_of(data, side=self.side))
        seen: list[dict[str, Any]] = []
        refused: list[str] = []
        if isinstance(data, MixedData):
            split = data.split_samples(self.samples)
            seen, refused = data.seen(split), data.too_many_passes(split)
        if self.json:
            print_result(
                json.dumps({**found, "sources": seen, "refused": refused} if seen else found)
            )
            return
        if seen:
            _print_sources(self.folder, seen, self.samples)
        for message in refused:
            print_line(f"warning: training refuses such a run: {message}")
        lines: Lines = []
        for name, value in found.items():
            title = name.replace("_", " ")
            if not isinstance(value, dict):
                lines.append((title, value))
                continue
            lines.append((title, len(value) if name == "buckets" else ""))
            lines += _indented(dict(islice(value.items(), SHOWN_BUCKETS)))
            if len(value) > SHOWN_BUCKETS:
                lines.append(("  others", sum(islice(value.values(), SHOWN_BUCKETS, None))))
        _print_lines(str(self.folder), lines)


@dataclass(frozen=True, kw_only=True, slots=True)
class MixtureFile:
    """Write a mixture that comes with deepgen, the paper's among them, beside its data sets."""

    preset: Positional[Annotated[MixtureName, arg(metavar="{" + ",".join(PRESETS) + "}")]]
    """Which mixture."""
    folder: Positional[Annotated[Path, arg(metavar="DIR")]] = Path()
    """Folder that holds the data sets, each imported under the name of its importer."""
    overwrite: bool = False
    """Replace an existing file."""
    debug: bool = False
    """Show where an error comes from."""

    def run(self) -> None:
        """Write the file, and print its path and which of its data sets are there."""
        from deepgen.data.mixture import read_mixture
        from deepgen.data.mixture_presets import preset_text

        path = self.folder / f"{self.preset}.yaml"
        if not self.folder.is_dir():
            raise DataError(f"there is no folder {self.folder}; name that of the data sets")
        if path.exists() and not self.overwrite:
            raise ValueError(f"{path} exists; add --overwrite to replace it")
        path.write_text(preset_text(self.preset), encoding="utf-8")
        sources = read_mixture(path).sources
        absent = {
            each.data: each.optional for each in sources if not (self.folder / each.data).exists()
        }
        for name, is_optional in absent.items():
            kind = "optional" if is_optional else "required"
            print_line(f"{name} is not in {self.folder} ({kind})")
        print_result(str(path))


def _print_sources(path: Path, seen: list[dict[str, Any]], samples: int) -> None:
    """What a run sees of each source of a mixture."""
    rows: list[tuple[str, ...]] = [("task", "source", "samples", "share", "seen", "passes")]
    for each in seen:
        numbers = (f"{each['samples']:,}", f"{each['share']:.2%}", f"{each['seen']:,}")
        rows.append((each["task"], each["source"], *numbers, f"{each['passes']:.2f}"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    print_result(f"{path}: a run of {samples:,} samples sees")
    for row in rows:
        cells = [
            cell.ljust(width) if number < 2 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print_result("  " + "  ".join(cells).rstrip())


def print_report(folder: Path, report: ImportReport, *, as_json: bool) -> None:
    """Print what an import made of its rows."""
    from deepgen.data.dataset import QUARANTINE

    if as_json:
        print_result(json.dumps({"path": str(folder), **asdict(report)}))
        return
    lines: Lines = [("rows", report.rows), ("samples", report.samples)]
    lines += _indented(report.tasks)
    lines += [("quarantined", sum(report.quarantined.values()))]
    lines += [*_indented(report.quarantined), ("shards", report.shards)]
    _print_lines(str(folder), lines)
    if report.quarantined:
        print_line(f"every reason is in {folder / QUARANTINE}")


def _first_match(index: PromptIndex, texts: Sequence[str]) -> str | None:
    """A benchmark's item among the prompts of a sample."""
    found = index.find(texts)
    return f"{found[0].kind} {found[0].benchmark} {found[0].item}" if found else None


@contextmanager
def reporting_disk_failures(folder: Path) -> Iterator[None]:
    """Report a failure of the disk in one line; finished files stay.

    Raises:
        DataError: A file or folder cannot be read or written.
    """
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{error.filename or folder}: {error.strerror or error}; fix that, and the same "
            "command resumes"
        ) from error


def _name_of(source: Path) -> str:
    """A name derived from that of a file or folder."""
    stem = source.resolve().name if source.is_dir() else source.stem
    return "".join(each if each.isalnum() or each in "-_" else "_" for each in stem) or "data"


def _indented(counts: Mapping[Any, int]) -> Lines:
    return [(f"  {name}", value) for name, value in counts.items()]


def _print_lines(title: str, lines: Lines) -> None:
    """Names and numbers in two columns."""
    rows = [(name, f"{value:,}" if isinstance(value, int) else value) for name, value in lines]
    print_result("\n".join([title, *aligned(rows)]))
