"""``deepgen data render-text``: images of texts, with the exact texts, as a data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from deepgen.cli.console import print_line, progress_bar
from deepgen.cli.data.counts import print_report
from deepgen.cli.data.disk import reporting_disk_failures
from deepgen.cli.options import File, Folder, Text, Whole, naming_options
from deepgen.config.checks import check_at_least

Kind = Literal["word", "sentence", "poster", "poem", "sign"]

TextLanguage = Literal["en", "zh", "mixed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RenderText:
    """Render words, sentences, posters, poems and signs; the same command resumes."""

    folder: Positional[Annotated[Path, arg(metavar="DST")]]
    """A new folder for the data set, or that of an interrupted run."""
    fonts: Annotated[Path, arg(metavar="DIR")]
    """Folder of font files: .ttf, .otf, .ttc."""
    count: int = 1000
    """Samples."""
    seed: int = 0
    """Chooses texts and looks; sample number i depends on nothing else."""
    side: int = 512
    """Images have about SIDE * SIDE pixels, in seven shapes."""
    kinds: Annotated[tuple[Kind, ...], arg(metavar="KIND [KIND ...]")] = (
        *("word", "sentence", "poster", "poem", "sign"),
    )
    """What is rendered: word, sentence, poster, poem, sign."""
    languages: Annotated[tuple[TextLanguage, ...], arg(metavar="LANG [LANG ...]")] = (
        *("en", "zh", "mixed"),
    )
    """Languages of the texts: en, zh, mixed."""
    edit_fraction: float = 0.2
    """Fraction of samples that are edits: another word or colour, text added or removed."""
    photos: Folder = None
    """Folder of photographs for backgrounds and behind signs (default: drawn ones)."""
    texts: File = None
    """File of texts, one per line, in place of the sentences (default: composed ones)."""
    encoding: Literal["jpeg", "png"] = "jpeg"
    """Format of the images; jpeg is of quality 95 with colours at full resolution."""
    name: str = "text_rendering"
    """First part of every sample's id."""
    licence: Text = None
    """Recorded with every sample (default: CC0-1.0; with PHOTOS or TEXTS, unknown)."""
    val_fraction: float = 0.0
    """Fraction of samples held out of training."""
    shard_mib: int = 256
    """Size of a shard; an interrupted run repeats at most this much."""
    workers: Whole = None
    """Processes (default: one per core); their number changes no image."""
    json: bool = False
    """Print one JSON object."""
    debug: bool = False
    """Show where an error comes from."""

    def run(self) -> None:
        """Render, and print the counts."""
        import os

        from deepgen.data.dataset import read_manifest
        from deepgen.data.importing import ImportOptions, import_source
        from deepgen.data.rendering.source import RenderedTexts, RenderOptions

        is_ours = self.photos is None and self.texts is None
        check_at_least("--shard-mib", self.shard_mib, 1)
        with naming_options(self):
            options = ImportOptions(
                name=self.name,
                licence=self.licence or ("CC0-1.0" if is_ours else "unknown"),
                redistributable=is_ours,
                val_fraction=self.val_fraction,
                shard_bytes=self.shard_mib << 20,
            )
            rendering = RenderOptions(
                fonts=self.fonts,
                count=self.count,
                seed=self.seed,
                side=self.side,
                kinds=self.kinds,
                languages=self.languages,
                edit_fraction=self.edit_fraction,
                photos=self.photos,
                texts=self.texts,
                encoding=self.encoding,
                workers=(os.cpu_count() or 1) if self.workers is None else self.workers,
            )
        with reporting_disk_failures(self.folder):
            source = RenderedTexts(rendering)
            before = read_manifest(self.folder) if self.folder.is_dir() else None
            with progress_bar("rendering", self.count) as advance:
                report = import_source(source, self.folder, options, watch=lambda rows: advance())
        if before is not None and before.complete:
            print_line("already rendered, nothing changed")
        print_report(self.folder, report, as_json=self.json)
