"""``deepgen edit``: images changed by instructions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from deepgen.cli.generating import generate_images
from deepgen.cli.options import ImageOptions, read_prompts


@dataclass(frozen=True, kw_only=True, slots=True)
class Edit(ImageOptions):
    """Edit an image by an instruction."""

    instruction: Positional[Annotated[str, arg(metavar="INSTRUCTION")]]
    """What to change; - reads standard input and @FILE a file, one instruction per line."""
    # Without a default, but the parser accepts an empty list, which run() refuses.
    images: Positional[
        Annotated[
            tuple[Path, ...], arg(metavar="IMAGE [IMAGE ...]", help_behavior_hint="(required)")
        ]
    ]
    """The image to edit; further images are additional references, in order."""

    def run(self) -> None:
        """Edit, write the files and print their paths."""
        if not self.images:
            raise ValueError("an edit needs an image, found none; give it after the instruction")
        instructions = read_prompts(self.instruction)
        if not all(text.strip() for text in instructions):
            raise ValueError("the instruction is empty, expected a text that says what to change")
        generate_images(self, instructions, image_paths=self.images, stem="edited")
