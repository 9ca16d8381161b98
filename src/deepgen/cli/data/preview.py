"""``deepgen data preview``: samples on a contact sheet or a page."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from deepgen.cli.console import counted, print_line, print_result, progress_bar
from deepgen.cli.options import DataFolder, Whole
from deepgen.cli.output import STANDARD_OUTPUT, plan_outputs, save_output


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
