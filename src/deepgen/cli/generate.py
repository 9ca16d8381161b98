"""``deepgen generate``: images from sentences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional, arg

from deepgen.cli.making import make_images
from deepgen.cli.options import ImageOptions, read_prompts


@dataclass(frozen=True, kw_only=True, slots=True)
class Generate(ImageOptions):
    """Draw an image from a sentence."""

    prompt: Positional[Annotated[str, arg(metavar="PROMPT")]]
    """What to draw; - reads standard input and @FILE a file, one prompt a line."""

    def run(self) -> None:
        """Draw, write the files and print their paths."""
        prompts = read_prompts(self.prompt)
        if not all(prompt.strip() for prompt in prompts):
            raise ValueError("the prompt is empty, expected a sentence that says what to draw")
        make_images(self, prompts, image_paths=(), stem="generated")
