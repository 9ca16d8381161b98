"""``deepgen edit``: images changed by instructions."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from deepgen.cli.generating import STANDARD_INPUT, generate_images
from deepgen.cli.options import ImageOptions, quoted, read_prompts
from deepgen.errors import UsageError
from deepgen.images.formats import IMAGE_SUFFIXES


@dataclass(frozen=True, kw_only=True, slots=True)
class Edit(ImageOptions):
    """Edit an image by an instruction."""

    instruction: Positional[Annotated[str, arg(metavar="INSTRUCTION")]]
    """What to change; - reads standard input and @FILE a file, one instruction per line."""
    # Without a default, but the parser accepts an empty list, which run() refuses.
    images: Positional[
        Annotated[
            tuple[str, ...], arg(metavar="IMAGE [IMAGE ...]", help_behavior_hint="(required)")
        ]
    ]
    """The image to edit, or - for standard input; further images are additional references."""

    def run(self) -> None:
        """Edit, write the files and print their paths."""
        if not self.images:
            raise UsageError("an edit needs an image, found none; give it after the instruction")
        self._check_order()
        if self.images.count(STANDARD_INPUT) + (self.instruction == STANDARD_INPUT) > 1:
            raise UsageError("standard input (-) can be read only once; give a file for the rest")
        instructions = read_prompts(self.instruction)
        if not all(text.strip() for text in instructions):
            raise ValueError("the instruction is empty, expected a text that says what to change")
        generate_images(self, instructions, images=self.images, stem="edited")

    def _check_order(self) -> None:
        """Recognise a sentence without quotes, and an image before its instruction.

        Raises:
            UsageError: Shows how it was probably meant.
        """
        words = [each for each in self.images if _is_word(each)]
        files = [each for each in self.images if not _is_word(each)]
        if _is_image(self.instruction):
            if words:
                self._suggest("the instruction comes first", words, [self.instruction, *files])
        elif words and list(self.images[: len(words)]) == words:
            sentence = [self.instruction, *words]
            self._suggest("an instruction of several words needs quotes", sentence, files)

    def _suggest(self, problem: str, words: list[str], files: list[str]) -> None:
        images = " ".join(map(shlex.quote, files)) or "IMAGE"
        raise UsageError(f"{problem}: deepgen edit {quoted(' '.join(words))} {images}")


def _is_image(argument: str) -> bool:
    path = Path(argument)
    return path.suffix.lower() in IMAGE_SUFFIXES and " " not in argument.strip()


def _is_word(argument: str) -> bool:
    """Whether an argument can only be part of a sentence."""
    if argument == STANDARD_INPUT or "/" in argument or _is_image(argument):
        return False
    try:
        return not Path(argument).exists()
    except OSError:
        return True
