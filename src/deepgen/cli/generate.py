"""``deepgen generate``: images from prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional, arg

from deepgen.cli.generating import generate_images
from deepgen.cli.options import ImageOptions, read_prompts


@dataclass(frozen=True, kw_only=True, slots=True)
class Generate(ImageOptions):
    """Generate images from a prompt."""

    prompt: Positional[Annotated[str, arg(metavar="PROMPT")]]
    """What to generate; - reads standard input and @FILE a file, one prompt per line."""

    def run(self) -> None:
        """Generate, write the files and print their paths."""
        prompts = read_prompts(self.prompt)
        if not all(prompt.strip() for prompt in prompts):
            raise ValueError("the prompt is empty, expected a text that says what to generate")
        generate_images(self, prompts, images=(), stem="generated")
