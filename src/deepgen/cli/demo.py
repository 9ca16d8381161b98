"""``deepgen demo``, and ``deepgen`` alone: a small gallery of what the embedded model draws."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from PIL import Image, ImageOps
from tyro.conf import arg

from deepgen.checkpoint.finding import find_model
from deepgen.checkpoint.hub import EMBEDDED
from deepgen.cli.commands import overview
from deepgen.cli.console import print_line, print_result, progress_bar
from deepgen.cli.output import plan_outputs, save_output
from deepgen.images.io import save_image
from deepgen.images.provenance import source_of
from deepgen.locks import locked

FOLDER = Path("deepgen-demo")

COLUMNS = 2

CAPTION_SIZE = 15
MARGIN = 10
"""Of the gallery, in pixels."""

SHOWN_SIDE = 192
"""Images of the gallery are enlarged to at least this side; their own files are not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Demo:
    """Draw a small gallery with the embedded model."""

    output: Annotated[Path, arg(metavar="DIR", aliases=["-o"])] = FOLDER
    """Folder of the images and of gallery.png, which shows them with their prompts."""
    overwrite: bool = False
    """Replace existing files."""
    debug: bool = False
    """Print the traceback of an error."""

    def run(self) -> None:
        """Generate, edit, and print the path of the gallery."""
        with locked(self.output):
            self._draw()

    def _draw(self) -> None:
        """See :meth:`run`, in the folder of the gallery."""
        page = plan_outputs(self.output / "gallery.png", 1, overwrite=self.overwrite)[0]
        model = find_model(EMBEDDED)
        wanted = json.loads((model.path / "gallery.json").read_text(encoding="utf-8"))
        paths = plan_outputs(self.output / "{i}.png", len(wanted), overwrite=self.overwrite)
        print_line("loading mini")
        from deepgen.pipeline.pipeline import DeepGenPipeline

        pipe: Any = DeepGenPipeline.from_pretrained(EMBEDDED)
        pipe.set_progress_bar_config(disable=True)
        self.output.mkdir(parents=True, exist_ok=True)
        images: list[Image.Image] = []
        with progress_bar("gallery", len(wanted)) as advance:
            for each, path in zip(wanted, paths, strict=True):
                source = images[each["edits"] - 1] if "edits" in each else None
                images.append(pipe(each["prompt"], source, seed=each["seed"]).images[0])
                save_image(images[-1], path, overwrite=self.overwrite)
                advance()
        gallery, source = _gallery(wanted, images), source_of(is_edit=True)
        save_output(gallery, page, {}, overwrite=self.overwrite, source=source)
        print_result(str(page))
        for each, path in zip(wanted, paths, strict=True):
            source = f", from {paths[each['edits'] - 1]}" if "edits" in each else ""
            print_line(f"{path}: {each['prompt']}{source}")


class Alone:
    """What ``deepgen`` alone does: list the commands, and draw the gallery unless it is there."""

    def run(self) -> None:
        """Print the overview, then the path of the gallery."""
        print_result(overview())
        page = FOLDER / "gallery.png"
        if page.exists():
            print_line(f"what the embedded model draws: {page} (deepgen demo --overwrite: again)")
            return
        print_line(f"drawing what the embedded model knows into {FOLDER}; Ctrl-C ends it")
        try:
            Demo().run()
        except ValueError as error:
            # The commands were what was asked for.
            print_line(f"note: no gallery: {error}")


def _gallery(wanted: list[dict[str, Any]], images: list[Image.Image]) -> Image.Image:
    """All images with their prompts; edits beside the image that they change."""
    from deepgen.mini.world.sheet import contact_sheet

    factor = -(-SHOWN_SIDE // max(max(image.size) for image in images))
    large = [
        image.resize((image.width * factor, image.height * factor), Image.Resampling.LANCZOS)
        for image in images
    ]
    cells = []
    for each, image in zip(wanted, large, strict=True):
        sources = [large[each["edits"] - 1]] if "edits" in each else []
        cells.append(([*sources, image], each["prompt"]))
    sheet = contact_sheet(cells, columns=COLUMNS, font_size=CAPTION_SIZE)
    return ImageOps.expand(sheet, MARGIN, "white")
