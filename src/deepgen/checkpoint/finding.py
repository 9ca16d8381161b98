"""Finding a model, and checking requests against its configuration files; no torch in here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deepgen.checkpoint.configs import read_defaults, read_dit
from deepgen.checkpoint.files import INDEX_NAME, WEIGHT_STEMS, ModelFolder
from deepgen.checkpoint.tokenizer_files import check_tokenizer
from deepgen.conditioning.texts import check_text
from deepgen.config.model import MAX_PROMPT_TOKENS, GenerationDefaults
from deepgen.config.sizes import LATENT_SCALE, Size, check_side, reference_size
from deepgen.errors import CheckpointError


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundModel:
    """A model folder that is complete by its file names and headers."""

    folder: ModelFolder
    defaults: GenerationDefaults
    max_side: int
    """Longest side of an image in pixels that the model has positions for."""

    @property
    def path(self) -> Path:
        """The folder's path."""
        return self.folder.path

    def check_sizes(self, height: int | None, width: int | None, references: list[Size]) -> None:
        """Refuse sizes, (height, width), that the model has no positions for.

        Raises:
            ValueError: Which side, and the maximum.
        """
        for name, side in (("--height", height), ("--width", width)):
            if side is not None:
                check_side(name, side, max_side=self.max_side)
        default_side = round(math.sqrt(self.defaults.height * self.defaults.width))
        for size in references:
            reference_size(*size, default_side, max_side=self.max_side)

    def check_texts(self, texts: Sequence[str]) -> None:
        """Refuse texts that are not valid Unicode, or have more tokens than any prompt may have.

        Raises:
            ValueError: What was found, and the maximum.
        """
        for text in texts:
            check_text(text)
        # A token is at least one byte, so most texts need no counting.
        long = [text for text in texts if len(text.encode()) > MAX_PROMPT_TOKENS]
        vocabulary = self.path / "tokenizer" / "tokenizer.json"
        if not long or not vocabulary.is_file():
            return
        from tokenizers import Tokenizer

        try:
            check_tokenizer(self.folder)
            tokenizer = Tokenizer.from_file(str(vocabulary))
        except CheckpointError as cause:
            raise CheckpointError(f"{self.path}: {cause}") from None
        except Exception as cause:
            # The library raises plain Exceptions for damaged files.
            raise CheckpointError(f"{vocabulary} cannot be read: {cause}") from None
        tokenizer.no_padding()
        tokenizer.no_truncation()
        for text in long:
            count = len(tokenizer.encode(text, add_special_tokens=False))
            if count > MAX_PROMPT_TOKENS:
                raise ValueError(
                    f"a prompt has {count} tokens, {MAX_PROMPT_TOKENS} is the limit; shorten it"
                )


def find_model(name: str) -> FoundModel:
    """Find ``mini``, a folder or a hub model, and check everything but the values of its weights.

    Raises:
        CheckpointError: It does not exist, or parts are missing or damaged.
    """
    from deepgen.checkpoint.hub import resolve

    folder = ModelFolder(resolve(name))
    problems = [f"{part} is missing" for part in folder.missing()]
    for component in WEIGHT_STEMS:
        try:
            folder.stored(component)
        except CheckpointError as error:
            problems.append(str(error))
    if problems:
        raise CheckpointError(f"{folder.path} is not a complete model: {'; '.join(problems)}")
    dit = read_dit(folder.config("transformer"))
    defaults = read_defaults(folder.json(INDEX_NAME))
    max_side = LATENT_SCALE * dit.patch_size * dit.pos_embed_max_size
    if max(defaults.height, defaults.width) > max_side:
        raise CheckpointError(
            f"{folder.path}: the default size of {defaults.width} x {defaults.height} exceeds the "
            f"{max_side} pixels per side that the model has positions for"
        )
    return FoundModel(folder=folder, defaults=defaults, max_side=max_side)
